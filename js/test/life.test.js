// Whether the server is still there: silence, late timers, hidden and frozen pages, networks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, World } from "./kit.js";

/** Makes this a page, of which the test is the browser. */
function page(t) {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false });
  const signals = [];
  for (const target of [window, document]) {
    const listen = target.addEventListener.bind(target);
    target.addEventListener = (type, handler, options) => {
      signals.push(options.signal);
      listen(type, handler, options);
    };
  }
  Object.assign(globalThis, { addEventListener: window.addEventListener, document });
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
  });
  return {
    listeners: () => signals.filter(({ aborted }) => !aborted).length,
    hide() {
      document.hidden = true;
      document.dispatchEvent(new Event("visibilitychange"));
    },
    show() {
      document.hidden = false;
      document.dispatchEvent(new Event("visibilitychange"));
    },
    online: () => window.dispatchEvent(new Event("online")),
    offline: () => window.dispatchEvent(new Event("offline")),
    thaw: (persisted) =>
      window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted })),
  };
}

test("a server that falls silent is asked after 25 s and given up 10 s later", async (t) => {
  const world = new World(t);
  await world.open();
  await world.pass(24_750);
  assert.equal(world.socket.pings, 0);
  await world.pass(250);
  assert.equal(world.socket.pings, 1);
  await world.pass(9_750);
  assert.equal(world.status.state, "open");
  await world.pass(250);
  const { state, code, reason } = world.status;
  assert.deepEqual({ state, code, reason },
    { state: "waiting", code: 1006, reason: "no sign of life from the server" });
  const [dead] = world.sockets;
  assert.equal(dead.closed, 1000);
  assert.equal(dead.onmessage, null, "it is let go of, not waited for");
});

for (const frame of ["pong", '{"message_type":"chat","content":1}', "what is this"]) {
  test(`this is a sign of life: ${frame}`, async (t) => {
    const world = new World(t);
    await world.open();
    await world.pass(30_000);
    assert.equal(world.socket.pings, 1);
    world.socket.receive(frame);
    await world.pass(24_750);
    assert.equal(world.socket.pings, 1);
    await world.pass(250);
    assert.equal(world.socket.pings, 2);
    assert.equal(world.status.state, "open");
  });
}

test("who is spoken to all the time asks nothing", async (t) => {
  const world = new World(t);
  await world.open();
  for (let i = 0; i < 20; i++) {
    await world.pass(20_000);
    world.socket.receive("pong");
  }
  assert.equal(world.socket.pings, 0);
});

test("a timer that runs late asks again before it gives up", async (t) => {
  const world = new World(t);
  await world.open();
  await world.pass(30_000);
  world.sleep(60_000);
  await world.pass(250);
  assert.equal(world.status.state, "open");
  assert.equal(world.socket.pings, 2);
  await world.pass(9_750);
  assert.equal(world.status.state, "open");
  await world.pass(250);
  assert.equal(world.status.state, "waiting", "no answer to that either");
});

test("a computer that slept for long asks, and has patience from then on", async (t) => {
  const world = new World(t);
  await world.open();
  await world.pass(10_000);
  world.sleep(3_600_000);
  await world.pass(250);
  assert.equal(world.socket.pings, 1);
  world.socket.receive("pong");
  await world.pass(20_000);
  assert.equal(world.status.state, "open");
});

test("a hidden page has 70 s of patience", async (t) => {
  const world = new World(t);
  const { hide } = page(t);
  await world.open();
  hide();
  await world.pass(25_000 + 69_750);
  assert.equal(world.status.state, "open");
  await world.pass(250);
  assert.equal(world.status.state, "waiting");
});

test("a page that is seen again asks at once, and has little patience", async (t) => {
  const world = new World(t);
  const { hide, show } = page(t);
  await world.open();
  hide();
  await world.pass(1_000);
  assert.equal(world.socket.pings, 0);
  show();
  assert.equal(world.socket.pings, 1);
  await world.pass(4_750);
  assert.equal(world.status.state, "open");
  await world.pass(250);
  assert.equal(world.status.state, "waiting");
});

test("a page that was frozen does so too", async (t) => {
  const world = new World(t);
  const { thaw } = page(t);
  await world.open();
  thaw(false); // only loaded
  assert.equal(world.socket.pings, 0);
  thaw(true);
  assert.equal(world.socket.pings, 1);
  world.socket.receive("pong");
  await world.pass(20_000);
  assert.equal(world.status.state, "open");
});

for (const sign of ["online", "show", "thaw"]) {
  test(`the wait for an attempt is ended by: ${sign}`, async (t) => {
    const world = new World(t);
    const browser = page(t);
    await world.open();
    world.random.mockImplementation(() => 0.99);
    world.socket.end(1006);
    browser[sign](true);
    await settled();
    assert.equal(world.sockets.length, 2);
    world.socket.welcome();
    await world.pass(5_000);
    assert.equal(world.sockets.length, 2, "once");
  });
}

for (const sign of ["online", "show", "thaw"]) {
  test(`so is one that the server asks for: ${sign}`, async (t) => {
    const world = new World(t);
    const browser = page(t);
    world.answerFetch(429, {}, { "Retry-After": "60" });
    world.connect();
    await settled();
    world.socket.end(1006);
    await settled();
    assert.equal(world.status.retryIn, 60_500);
    browser[sign](true);
    await settled();
    assert.equal(world.status.state, "connecting");
    assert.equal(world.sockets.length, 2);
  });

  test(`an attempt of which nothing comes is begun anew by: ${sign}`, async (t) => {
    const world = new World(t);
    const browser = page(t);
    let calls = 0;
    world.connect({ token: () => ++calls === 1 ? new Promise(() => {}) : "t" });
    await settled();
    browser[sign](true);
    await settled();
    assert.deepEqual([calls, world.sockets.length], [2, 1]);
    browser[sign](true);
    await settled();
    assert.equal(world.sockets.length, 1, "several signs are one");
  });
}

for (const by of [-3_600_000, 3_600_000]) {
  test(`a clock that is set by ${by / 60_000} minutes changes nothing`, async (t) => {
    const world = new World(t);
    await world.open();
    await world.pass(20_000);
    world.set += by;
    await world.pass(4_750);
    assert.equal(world.socket.pings, 0);
    await world.pass(250);
    assert.equal(world.socket.pings, 1);
    world.set -= 2 * by;
    await world.pass(9_750);
    assert.equal(world.status.state, "open");
    await world.pass(250);
    assert.equal(world.status.state, "waiting");
  });

  test(`nor does it change how long a connection has lasted: ${by / 60_000} minutes`, async (t) => {
    const world = new World(t);
    await world.open();
    for (const [lasts, wait] of [[100, 500], [100, 1_000], [10_000, 500]]) {
      await world.pass(lasts);
      world.set += by;
      world.socket.end(1011);
      assert.equal(world.status.retryIn, wait);
      await world.nextAttempt();
      world.socket.welcome();
    }
  });
}

test("as long as what it says leaves, a server is waited for", async (t) => {
  const world = new World(t);
  await world.open();
  for (let left = 400_000; left > 0; left -= 20_000) { // at 2 KB/s
    world.socket.bufferedAmount = left;
    await world.pass(10_000);
  }
  assert.equal(world.status.state, "open");
  await world.pass(20_000);
  assert.notEqual(world.status.state, "open", "when nothing leaves any more it is given up");
});

test("a large message that is announced is waited for", async (t) => {
  const world = new World(t);
  await world.open();
  world.socket.receive({ message_type: "large", bytes: 100_000 });
  await world.pass(124_750);
  assert.equal(world.socket.pings, 0);
  world.socket.receive({ message_type: "chat", content: "the large one" });
  await world.pass(24_750);
  assert.equal(world.socket.pings, 0);
  await world.pass(250);
  assert.equal(world.socket.pings, 1, "and then it is as ever");
  world.socket.receive({ message_type: "large", bytes: 1e12 });
  await world.pass(3_600_000 + 35_000);
  assert.equal(world.status.state, "waiting", "but not for ever");
});

test("a message of the application may have the same type", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("large", (content) => got.push(content));
  world.socket.receive({ message_type: "large", bytes: 1_000 });
  world.socket.receive({ message_type: "large", content: "shirt" });
  assert.deepEqual(got, ["shirt"]);
});

test("a large message is not waited for when there is reason to doubt", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.receive({ message_type: "large", bytes: 100_000 });
  client.reconnect();
  await world.pass(5_000);
  assert.equal(world.status.state, "waiting");
});

test("more doubts do not give a dead server more time", async (t) => {
  const world = new World(t);
  const client = await world.open();
  for (let i = 0; i < 5; i++) {
    client.reconnect();
    await world.pass(1_000);
  }
  assert.equal(world.socket.pings, 1);
  assert.equal(world.status.state, "waiting");
});

test("going offline ends nothing: some networks only seem to be gone", async (t) => {
  const world = new World(t);
  const { offline } = page(t);
  await world.open();
  offline();
  await world.pass(10_000);
  assert.equal(world.status.state, "open");
});

test("a client that stays away is not woken, nor one that is closed", async (t) => {
  const world = new World(t);
  const { online, show, listeners } = page(t);
  const client = await world.open();
  world.socket.end(4403);
  online();
  await settled();
  assert.equal(world.sockets.length, 1);
  assert.equal(listeners(), 3);
  client.close();
  await world.pass(1);
  assert.equal(listeners(), 0);
  online();
  show();
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
});
