// Clients that watch each other, with a real server. The arguments are the URL of the server and
// the name of a test below. The script fails if the test fails.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTo } from "../../js/dist/realtime.js";
import { PageSocket } from "./pagesocket.mjs";

const [url, name] = process.argv.slice(2);

const storage = new Map(); // of a tab of the browser; all clients here share it
globalThis.sessionStorage = {
  getItem: (key) => storage.get(key) ?? null,
  setItem: (key, value) => storage.set(key, value),
};

const connect = (user) => connectTo(`${url}?user_id=${user}`, { WebSocket: PageSocket });

/** Waits until a condition holds. */
async function until(condition, what) {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 3_000, what);
    await sleep(10);
  }
}

/** Connects a user that watches the lobby, and records the changes. */
async function watch(user) {
  const client = connect(user);
  const room = client.join("lobby", { presence: true });
  const changes = [];
  room.onPresence((now, { joined, left, updated }) => {
    const names = (sign, members) => members.map((member) => sign + member.user);
    changes.push(...names("+", joined), ...names("-", left), ...names("*", updated));
  });
  await until(() => room.presence.members.some(({ me }) => me), `${user} in the lobby`);
  return { client, room, changes };
}

const usersOf = (room) => room.presence.users().map(({ user }) => user).join();

const tests = {
  async presence() {
    const alice = await watch("alice");
    const bob = connect("bob");
    const room = bob.join("lobby", { state: { typing: false } });
    await until(() => usersOf(alice.room) === "alice,bob", "both users");
    assert.equal(room.presence.show, "nothing", "bob has not asked");
    const { key, ...member } = alice.room.presence.members[1];
    assert.deepEqual(member,
      { user: "bob", info: { name: "BOB" }, state: { typing: false }, away: false, me: false });

    room.setState({ typing: true });
    room.setState({ cursor: [3, 4] });
    const stateOfBob = () => alice.room.presence.members[1].state;
    await until(() => stateOfBob().cursor, "the newest state");
    assert.deepEqual(stateOfBob(), { typing: true, cursor: [3, 4] });
    assert.equal(alice.room.presence.members[1].key, key);

    const phone = connect("bob&device=phone").join("lobby");
    await until(() => alice.room.presence.connectionCount === 3, "the phone");
    assert.equal(alice.room.presence.userCount, 2);
    assert.deepEqual(alice.room.presence.users().map(({ members }) => members.length), [1, 2]);
    phone.leave();
    room.leave();
    await until(() => usersOf(alice.room) === "alice", "bob has left");
    assert.deepEqual(alice.changes.filter((change) => change[0] !== "*"),
      ["+alice", "+bob", "+bob", "-bob", "-bob"]);
  },

  // A page that is reloaded keeps its key, so the others see no change.
  async reload() {
    const alice = await watch("alice");
    let page = await watch("bob");
    await until(() => usersOf(alice.room) === "alice,bob", "both users");
    const { key } = alice.room.presence.members[1];
    const before = alice.changes.length;
    for (let i = 0; i < 50; i++) {
      page.client.close();
      await sleep(i === 0 ? 300 : 10);
      page = await watch("bob");
      assert.equal(page.room.presence.members.length, 2);
    }
    await sleep(500);
    assert.deepEqual(alice.changes.slice(before), [], "nobody has seen the reloads");
    assert.equal(alice.room.presence.members[1].key, key);
    page.client.close();
    await until(() => usersOf(alice.room) === "alice", "bob has closed the page for good");
  },

  // A page without a key is another member, but its user stays.
  async reloadWithoutKey() {
    const alice = await watch("alice");
    delete globalThis.sessionStorage;
    let page = await watch("bob");
    await until(() => usersOf(alice.room) === "alice,bob", "both users");
    const seen = new Set();
    alice.room.onPresence(() => seen.add(usersOf(alice.room)));
    page.client.close();
    await sleep(300);
    page = await watch("bob");
    await until(() => alice.changes.includes("-bob"), "the end of the old session");
    await sleep(100);
    assert.deepEqual([...seen], ["alice,bob"]);
    assert.deepEqual(alice.room.presence.members.map(({ away }) => away), [false, false]);
  },

  // A slow handler gets few of the values, and the last one.
  async latest() {
    const slow = connect("alice").join("board");
    const sender = connect("bob").join("board");
    await until(() => slow.joined && sender.joined, "the room");
    const got = { a: [], b: [] };
    slow.on("shape", async (content, { latest }) => {
      got[latest].push(content);
      await sleep(200);
    });
    for (let i = 0; i <= 100; i++) {
      sender.send("shape", i, { latest: "a" });
      if (i % 10 === 0) sender.send("shape", i, { latest: "b" });
      await sleep(10);
    }
    await until(() => got.a.at(-1) === 100 && got.b.at(-1) === 100, "the last values");
    assert.ok(got.a.length < 20, `${got.a.length}`);
    assert.deepEqual(got.a, [...new Set(got.a)].sort((x, y) => x - y), "in order");

    sender.send("shape", null, { latest: "b" });
    await until(() => got.b.at(-1) === null, "the removal");
    const late = [];
    connect("carol").join("board").on("shape", (content, { latest }) => late.push([latest, content]));
    await until(() => late.length > 0, "the values of a room that was joined");
    await sleep(200);
    assert.deepEqual(late, [["a", 100]]);
  },
};

await tests[name]();
process.exit();
