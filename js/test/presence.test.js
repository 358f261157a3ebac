// Presence: what a room shows of its members, and the own state.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { TestEnv } from "./helpers.js";
import { joined, since } from "./lobby.js";

/** Returns a frame with the entries of set, and without those whose keys are in gone. */
const frame = (ver, { set = [], gone = [], ...more }) => ({
  message_type: "presence", room: "lobby", ver, user_count: 0, connection_count: 0, ...more,
  members: Object.fromEntries([
    ...gone.map((key) => [key, null]), ...set.map(({ key, ...entry }) => [key, entry]),
  ]),
});
const all = (ver, set, more) => frame(ver, { show: "members", set, ...more });
const entry = (key, user, more) => ({ key, ...user && { user }, ...more });
const keys = (members) => members.map(({ key }) => key).join();
const requestsOf = ({ requests }) => requests.filter(({ type }) => type !== "seen");
const ofRoom = (socket) => requestsOf(socket).map(({ id, room, ...request }) => request);

/** Returns a room with presence, and the log of its changes. */
async function watch(t, options) {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { presence: true, ...options });
  const log = [];
  const errors = [];
  room.onError(({ code }) => errors.push(code));
  room.onPresence((now, { joined, left, updated }) => {
    assert.equal(now, room.presence);
    log.push(`${keys(now.members)} +${keys(joined)} -${keys(left)} ~${keys(updated)}`);
  });
  env.socket.reply("join", { key: "m", show: "members" });
  return { env, client, room, log, errors, take: () => log.splice(0) };
}

test("frames without prev replace everything, and differences change it", async (t) => {
  const { env, room, take } = await watch(t);
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", presence: true }]);
  const { show, userCount, connectionCount, members } = room.presence;
  assert.deepEqual({ show, userCount, connectionCount, members },
    { show: "nothing", userCount: 0, connectionCount: 0, members: [] });
  env.socket.receive(all(1, [entry("m", "bob"), entry("b", "alice")], { user_count: 2, connection_count: 2 }));
  assert.deepEqual(take(), ["b,m +m,b - ~"]);
  assert.deepEqual(room.presence.members, [
    { key: "b", user: "alice", info: undefined, state: undefined, away: false, me: false },
    { key: "m", user: "bob", info: undefined, state: undefined, away: false, me: true },
  ]);
  const before = room.presence;
  const set = [entry("b", "alice", { info: { name: "A" }, state: [1], away: true }), entry("c")];
  env.socket.receive(frame(2, { prev: 1, set, user_count: 2, connection_count: 3 }));
  assert.deepEqual(take(), ["c,b,m +c - ~b"]);
  assert.notEqual(room.presence, before);
  assert.equal(before.members.length, 2, "the object that was shown stays as it is");
  assert.equal(room.presence.members[2], before.members[1], "what has not changed is the same object");
  assert.deepEqual([room.presence.userCount, room.presence.connectionCount], [2, 3]);
  const [anonymous, alice] = room.presence.members;
  assert.deepEqual([anonymous.user, alice.info, alice.state, alice.away], [null, { name: "A" }, [1], true]);
  env.socket.receive(frame(7, { prev: 2, gone: ["c"], user_count: 2, connection_count: 2 }));
  assert.deepEqual(take(), ["b,m + -c ~"]);
  env.socket.receive(frame(8, { prev: 7, set: [entry("b", "bob")], user_count: 1, connection_count: 2 }));
  assert.deepEqual(take(), ["b,m +b -b ~"], "another user is another member");
  env.socket.receive(frame(9, { prev: 8, set: [entry("b", "bob", { state: 2 })], user_count: 1, connection_count: 2 }));
  assert.deepEqual(take(), ["b,m + - ~b"], "a member that changed has not joined");
  env.socket.receive({ message_type: "presence", room: "lobby", show: "nothing", user_count: 0, connection_count: 0 });
  assert.deepEqual(take(), [" + -m,b ~"], "the client may not watch any more");
  assert.equal(room.presence.show, "nothing");
  await env.reopen();
  assert.equal(ofRoom(env.socket)[0].presence, true, "it has no version");
});

test("a key that another user takes over is another member", async (t) => {
  const { env, room, take } = await watch(t);
  const users = (members) => members.map(({ user }) => user).join();
  const log = [];
  room.onPresence((now, { joined, left, updated }) => {
    log.push(`${users(now.members)} +${users(joined)} -${users(left)} ~${users(updated)}`);
  });
  env.socket.receive(all(1, [entry("K", "victim"), entry("g")]));
  env.socket.receive(frame(3, { prev: 1, set: [entry("K", "mallory"), entry("g", undefined, { state: 1 })] }));
  assert.deepEqual(log.splice(0), [",victim +victim, - ~", ",mallory +mallory -victim ~"]);
  await env.reopen();
  env.socket.reply("join", { key: "m", show: "members" });
  env.socket.receive(all(9, [entry("K"), entry("g", "mallory")]));
  assert.deepEqual(log, [",mallory +,mallory -mallory, ~"]);
});

test("a frame that changes nothing calls no handler", async (t) => {
  const { env, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "bob", { state: { x: 1 } })]));
  take();
  env.socket.receive(frame(2, { prev: 1 }));
  env.socket.receive(frame(3, { prev: 2, set: [entry("m", "bob", { state: { x: 1 } })] }));
  env.socket.receive(all(9, [entry("m", "bob", { state: { x: 1 } })]));
  assert.deepEqual(take(), []);
  env.socket.receive(frame(10, { prev: 9, user_count: 1 }));
  assert.equal(take().length, 1, "a number has changed");
});

test("users are groups of members", async (t) => {
  const { env, room } = await watch(t);
  env.socket.receive(all(1, [
    entry("m", "bob", { info: 2 }), entry("n"), entry("a", "bob", { info: 1, away: true }), entry("k"),
    entry("z", "al", { away: true }),
  ]));
  const users = room.presence.users();
  assert.deepEqual(users.map(({ user, info, members, away, me }) => [user, info, keys(members), away, me]), [
    [null, undefined, "k", false, false], [null, undefined, "n", false, false],
    ["al", undefined, "z", true, false], ["bob", 1, "a,m", false, true],
  ]);
});

test("a room that shows numbers has no members", async (t) => {
  const { env, room, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "bob")]));
  take();
  env.socket.receive(frame(2, { show: "count", user_count: 5_000, connection_count: 5_112 }));
  assert.deepEqual(take(), [" + -m ~"]);
  const { show, userCount, connectionCount } = room.presence;
  assert.deepEqual([show, userCount, connectionCount], ["count", 5_000, 5_112]);
  env.socket.receive(frame(3, { show: "count", user_count: 4_999, connection_count: 5_112 }));
  assert.equal(room.presence.userCount, 4_999);
});

test("a difference to another version makes the client ask once", async (t) => {
  const { env, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "bob")]));
  take();
  env.socket.receive(frame(5, { prev: 4, set: [entry("x", "x")] }));
  env.socket.receive(frame(6, { prev: 5, set: [entry("y", "y")] }));
  env.socket.receive(all(7, []));
  assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "join", presence: true }]);
  assert.deepEqual(take(), [], "nothing before the answer is in sequence");
  env.socket.reply("join", { key: "m", show: "members" });
  env.socket.receive(all(8, [entry("m", "bob"), entry("z", "z")]));
  env.socket.receive(frame(9, { prev: 8, gone: ["z"] }));
  assert.deepEqual(take(), ["m,z +z - ~", "m + -z ~"]);
  assert.equal(requestsOf(env.socket).length, 2);
});

test("asking again reports no join and no gap", async (t) => {
  const { env, room, client } = await watch(t);
  const events = [];
  room.onJoin(() => events.push("join"));
  client.onGap(() => events.push("gap"));
  env.socket.receive(frame(5, { prev: 4 }));
  env.socket.reply("join", { show: "members" });
  assert.deepEqual([events, room.joined], [[], true]);
});

test("presence stays while the client reconnects, and the change is that to what was shown", async (t) => {
  const { env, room, take } = await watch(t);
  env.socket.receive(all(3, [entry("m", "me"), entry("a", "a"), entry("b", "b"), entry("c", "c")]));
  take();
  const shown = room.presence;
  await env.reopen();
  assert.equal(room.presence, shown);
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", presence: 3 }]);
  env.socket.receive(frame(4, { prev: 3, gone: ["a"] })); // of the resumed session
  env.socket.reply("join", { key: "m", show: "members" });
  assert.equal(room.presence, shown);
  env.socket.receive(frame(5, { prev: 3, gone: ["a"], set: [entry("b", "b", { state: 1 })] }));
  assert.deepEqual(take(), ["b,c,m + -a ~b"]);
  await env.reopen();
  assert.equal(env.socket.last("join").presence, 5);
  env.socket.reply("join", { key: "m", show: "members" });
  env.socket.receive(all(2, [entry("d", "d"), entry("b", "b", { state: 2 }), entry("m", "me")]));
  assert.deepEqual(take(), ["b,d,m +d -c ~b"]);
  await env.reopen();
  assert.equal(env.socket.last("join").presence, 2);
  env.socket.reply("join", { key: "m", show: "members" });
  env.socket.receive(all(9, [entry("b", "b", { state: 2 }), entry("m", "me"), entry("d", "d")]));
  assert.deepEqual(take(), []);
});

test("the own entry is that with the key of the last answer", async (t) => {
  const { env, room, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "me")]));
  await env.reopen();
  env.socket.reply("join", { key: "n", show: "members" });
  take();
  env.socket.receive(frame(2, { prev: 1, set: [entry("n", "me")] }));
  assert.deepEqual(take(), ["m,n +n - ~m"]);
  assert.deepEqual(room.presence.members.map(({ me }) => me), [false, true]);
});

test("a room that shows nothing any more is empty", async (t) => {
  const { env, room, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "me")]));
  take();
  await env.reopen();
  env.socket.reply("join", { show: "nothing" });
  assert.deepEqual([room.presence.show, take()], ["nothing", [" + -m ~"]]);
  await env.reopen();
  assert.equal(env.socket.last("join").presence, true);
});

test("presence can be requested later, and be refused", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  const events = [];
  room.onError(({ code }) => events.push(code));
  room.onJoin(() => events.push("join"));
  env.socket.reply("join", joined(7, 7));
  assert.deepEqual(ofRoom(env.socket), [{ type: "join" }]);
  client.join("lobby");
  assert.equal(env.socket.requests.length, 1);
  client.join("lobby", { presence: true });
  assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "join", presence: true }]);
  env.socket.refuse("join", "forbidden");
  assert.deepEqual([room.joined, events], [true, ["join", "forbidden"]]);
  await env.reopen();
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", since: since(7) }]);
  env.socket.reply("join", joined(7, 7, { recovered: true }));
  client.join("lobby", { presence: true });
  client.join("lobby", { presence: true });
  assert.equal(env.socket.requests.length, 2, "once");
  env.socket.reply("join", { key: "m", show: "members", ...joined(8, 8) });
  env.socket.receive(all(1, [entry("m", "me")]));
  assert.equal(keys(room.presence.members), "m");
  await env.reopen();
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", since: since(7), presence: 1 }], "the position stays");
});

test("presence is requested once, whenever it is asked for", async (t) => {
  const { env, client } = await watch(t);
  env.socket.receive({ message_type: "shape", room: "lobby", latest: "a", content: 1 });
  client.join("hall");
  env.socket.end(1006);
  client.join("hall", { presence: true });
  await env.nextAttempt();
  env.socket.welcome();
  client.join("lobby", { presence: true });
  assert.deepEqual(requestsOf(env.socket).map(({ id, ...request }) => request), [
    { type: "join", room: "lobby", presence: true, latest: 0 }, { type: "join", room: "hall", presence: true },
  ]);
});

test("a refusal after the last leave asks for nothing", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.join("lobby", { presence: true }).leave();
  await env.pass(1);
  env.socket.refuse("join", "forbidden");
  assert.deepEqual(requestsOf(env.socket).map(({ type }) => type), ["join", "leave"]);
});

test("a room that removes or refuses the client shows nothing", async (t) => {
  const { env, room, client, errors, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "me")]));
  take();
  env.socket.receive({ message_type: "left", room: "lobby" });
  assert.deepEqual([take(), errors], [[" + -m ~"], ["removed"]]);
  client.join("lobby");
  assert.equal(env.socket.last("join").presence, true);
  env.socket.reply("join", { key: "m", show: "members" });
  env.socket.receive(all(4, [entry("m", "me")]));
  await env.reopen();
  env.socket.refuse("join", "forbidden");
  assert.deepEqual([keys(room.presence.members), errors], ["", ["removed", "forbidden"]]);
});

test("a removal while the client asks for presence is undone", async (t) => {
  const { env, client } = await watch(t);
  env.socket.receive(frame(5, { prev: 4 }));
  env.socket.receive({ message_type: "left", room: "lobby" });
  env.socket.reply("join", { show: "members" });
  assert.deepEqual(ofRoom(env.socket).map(({ type }) => type), ["join", "join", "leave"]);
  assert.equal(client.join("lobby").joined, false);
});

test("in a room to which the application added the client, recover asks for presence", async (t) => {
  const { env, client } = await watch(t);
  await env.reopen();
  env.socket.refuse("join", "denied");
  env.socket.receive({ message_type: "joined", room: "lobby", content: joined(5) });
  await env.reopen();
  env.socket.receive({ message_type: "joined", room: "lobby", content: joined(9) });
  const { id, room, ...request } = env.socket.last("recover");
  assert.deepEqual(request, { type: "recover", since: since(5), presence: true });
  env.socket.receive({ message_type: "joined", room: "lobby", content: joined(9, 9, { key: "m" }) });
  env.socket.reply("recover", joined(5, 5, { recovered: true }));
  client.close();
});

for (const [title, add] of [
  ["before its join is refused", (env) => {
    env.socket.receive({ message_type: "joined", room: "lobby" });
    env.socket.refuse("join", "forbidden");
  }],
  ["after its join was refused", (env) => {
    env.socket.refuse("join", "forbidden");
    env.socket.receive({ message_type: "joined", room: "lobby" });
  }],
]) {
  test(`a client that the application adds ${title} gets presence`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const room = client.join("lobby", { presence: true });
    const log = [];
    room.onError(({ code }) => log.push(code));
    room.onJoin(({ gap }) => log.push(gap ? "gap" : "join"));
    add(env);
    assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "recover", presence: true }]);
    env.socket.reply("recover", { key: "m", show: "members" });
    assert.deepEqual([room.joined, log.splice(0).sort()], [true, ["forbidden", "join"]]);
    env.socket.receive(all(1, [entry("m", "me")]));
    env.socket.receive(frame(2, { prev: 1, set: [entry("a", "a")] }));
    assert.equal(keys(room.presence.members), "a,m");
    await env.reopen();
    assert.deepEqual(ofRoom(env.socket), [], "the client does not join by itself");
    env.socket.receive({ message_type: "joined", room: "lobby" });
    assert.deepEqual(ofRoom(env.socket), [{ type: "recover", presence: 2 }]);
    env.socket.reply("recover", { key: "m", show: "members" });
    env.socket.receive(frame(3, { prev: 2, gone: ["a"] }));
    assert.equal(keys(room.presence.members), "m");
    env.socket.receive(frame(5, { prev: 4 }));
    assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "recover", presence: true }]);
    assert.deepEqual(log, ["gap"]);
  });
}

test("a client that the application had added gets presence after its refused join", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const log = [];
  client.onGap(({ room }) => log.push(room));
  env.socket.receive({ message_type: "joined", room: "lobby" });
  const room = client.join("lobby", { presence: true });
  room.onError(({ code }) => log.push(code));
  env.socket.refuse("join", "forbidden");
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", presence: true }, { type: "recover", presence: true }]);
  env.socket.reply("recover", { key: "m", show: "members" });
  env.socket.receive(all(1, [entry("m", "me")]));
  assert.deepEqual([keys(room.presence.members), room.joined, log], ["m", true, ["forbidden"]]);
  client.join("lobby", { presence: true });
  env.socket.refuse("join", "forbidden");
  env.socket.receive(all(2, [entry("m", "me"), entry("n", "me")]));
  assert.equal(requestsOf(env.socket).length, 3, "presence continues");
  assert.equal(keys(room.presence.members), "m,n");
});

test("a client that the application adds and that may not watch the room gets the rest", async (t) => {
  const { env, room, client, errors, take } = await watch(t);
  const events = [];
  room.onJoin(({ gap, recovered }) => events.push(`${gap} ${recovered}`));
  room.on("shape", () => {});
  client.onGap(({ room }) => room && events.push("gap"));
  env.socket.receive(all(4, [entry("m", "me")]));
  take();
  env.socket.receive({ message_type: "shape", room: "lobby", latest: "a", content: 1 });
  await env.reopen();
  env.socket.receive({ message_type: "joined", room: "lobby", content: joined(5) });
  env.socket.refuse("join", "forbidden");
  assert.deepEqual([errors.splice(0), events.splice(0)], [["forbidden"], ["true 0", "gap"]]);
  assert.deepEqual(take(), [], "presence stays until the answer");
  assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "recover", presence: 4, latest: 0 }]);
  env.socket.refuse("recover", "forbidden");
  assert.deepEqual(take(), [" + -m ~"]);
  assert.deepEqual(ofRoom(env.socket).slice(2), [{ type: "recover", latest: 0 }]);
  env.socket.reply("recover", joined(5));
  await env.reopen();
  env.socket.receive({ message_type: "joined", room: "lobby", content: joined(9) });
  client.join("lobby", { presence: true });
  env.socket.refuse("join", "forbidden");
  assert.deepEqual(errors.splice(0), ["forbidden"]);
  env.socket.refuse("recover", "forbidden");
  assert.deepEqual(ofRoom(env.socket).slice(-2), [
    { type: "recover", since: since(5), presence: true, latest: 0 }, { type: "recover", since: since(5), latest: 0 },
  ]);
  env.socket.reply("recover", joined(5, 5, { recovered: true }));
  assert.deepEqual([errors, events, room.joined], [[], ["false 0"], true]);
});

test("a join while presence is requested decides whether the client is in the room", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { presence: true });
  const errors = [];
  room.onError(({ code }) => errors.push(code));
  env.socket.refuse("join", "forbidden");
  env.socket.receive({ message_type: "joined", room: "lobby" });
  client.join("lobby");
  env.socket.refuse("recover", "forbidden");
  assert.deepEqual(errors, ["forbidden", "forbidden"], "the join, and presence");
  env.socket.reply("join");
  assert.deepEqual(ofRoom(env.socket).map(({ type }) => type), ["join", "recover", "join"]);
  assert.equal(room.joined, true);
});

test("presence ends when the page leaves a room in which the client stays", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.receive({ message_type: "joined", room: "lobby" });
  const room = client.join("lobby", { presence: true });
  const log = [];
  room.onError(() => {});
  room.onPresence(({ members }) => log.push(keys(members)));
  env.socket.refuse("join", "forbidden");
  env.socket.reply("recover", { show: "members" });
  env.socket.receive(all(1, [entry("m", "me")]));
  room.leave();
  await env.pass(1);
  env.socket.receive(frame(2, { prev: 1, set: [entry("n", "me")] }));
  await env.reopen();
  env.socket.receive({ message_type: "joined", room: "lobby" });
  assert.deepEqual([log, ofRoom(env.socket)], [["m"], []]);
});

test("random differences and snapshots give what a plain model shows", async (t) => {
  const { env, room } = await watch(t);
  let seed = 7;
  const random = (n) => (seed = (seed * 48_271) % 2_147_483_647) % n;
  const model = new Map(); // by key
  const shown = new Map(); // as the changes say
  let calls = 0;
  room.onPresence((now, { joined, left, updated }) => {
    calls++;
    for (const member of left) assert.equal(shown.get(member.key), member), shown.delete(member.key);
    for (const member of joined) assert.ok(!shown.has(member.key) && shown.set(member.key, member));
    for (const member of updated) {
      assert.equal(shown.get(member.key)?.user, member.user);
      shown.set(member.key, member);
    }
  });
  let version = 0;
  for (let i = 0; i < 2_000; i++) {
    const [gone, set] = [new Set(), new Map()];
    for (let n = random(4); n > 0; n--) {
      const key = `k${random(12)}`;
      if (random(3) === 0) {
        gone.add(key);
        if (!set.has(key)) model.delete(key);
      } else {
        const raw = entry(key, [undefined, "a", "b", "c"][random(4)], { ...random(2) && { state: random(3) } });
        set.set(key, raw);
        model.set(key, raw);
      }
    }
    const counts = { user_count: model.size, connection_count: model.size };
    const prev = version;
    version += 1 + random(3);
    if (random(20) === 0) {
      await env.reopen();
      env.socket.reply("join", { key: "m", show: "members" });
      if (random(2)) env.socket.receive(all(version = random(1_000), [...model.values()], counts));
      else env.socket.receive(frame(version, { prev, gone: [...gone], set: [...set.values()], ...counts }));
    } else {
      env.socket.receive(i === 0 ? all(version, [...model.values()], counts)
        : frame(version, { prev, gone: [...gone], set: [...set.values()], ...counts }));
    }
    const expected = [...model.values()]
      .map(({ key, user = null, state }) => ({ key, user, info: undefined, state, away: false, me: false }))
      .sort((a, b) => (a.user ?? "").localeCompare(b.user ?? "") || (a.key < b.key ? -1 : 1));
    assert.deepEqual(room.presence.members, expected);
    assert.deepEqual(new Map(room.presence.members.map((member) => [member.key, member])), shown);
  }
  assert.ok(calls > 500);
  assert.deepEqual(env.sockets.flatMap(({ requests }) => requests).filter(({ presence }) => presence === true).length, 1);
});

test("a state is sent with each join, and changes are merged", async (t) => {
  const { env, room } = await watch(t, { state: { x: 1, y: 1 } });
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", presence: true, state: { x: 1, y: 1 } }]);
  room.setState({ y: undefined, z: { deep: 1 } });
  assert.deepEqual(ofRoom(env.socket).slice(1), [{ type: "state", state: { x: 1, z: { deep: 1 } } }]);
  assert.deepEqual(room.presence.members, [], "the server shows it");
  env.socket.end(1006);
  room.setState({ x: 2 });
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(ofRoom(env.socket), [{ type: "join", presence: true, state: { x: 2, z: { deep: 1 } } }]);
  env.socket.reply("join");
  await env.pass(100);
  assert.equal(env.socket.requests.length, 1, "once");
  for (const [patch, state] of [[7, 7], [{ a: 1 }, { a: 1 }], [[1], [1]], [{ b: 2 }, { b: 2 }], [null, null], [{}, {}]]) {
    room.setState(patch);
    await env.pass(33);
    assert.deepEqual(env.socket.last("state").state, state);
  }
  room.setState(null);
  await env.reopen();
  assert.equal(env.socket.last("join").state, null, "none, also if the session is resumed");
});

test("the newest state is sent at most each 33 ms, and only while joined", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  const states = () => env.socket.requests.filter(({ type }) => type === "state").map(({ state }) => state);
  room.setState(1); // after the join was sent
  room.setState(2);
  assert.deepEqual(states(), []);
  env.socket.reply("join");
  assert.deepEqual(states(), [2]);
  for (const state of [3, 4, 5]) room.setState(state);
  await env.pass(32);
  assert.deepEqual(states(), [2]);
  room.setState(6);
  await env.pass(1);
  assert.deepEqual(states(), [2, 6]);
  await env.pass(33);
  room.setState(7);
  assert.deepEqual(states(), [2, 6, 7]);
  for (let i = 0; i < 1_000; i += 5) {
    room.setState(i);
    await env.pass(5);
  }
  assert.ok(states().length <= 3 + 31, `${states().length}`);
  client.join("lobby", { state: "new" });
  await env.pass(33);
  assert.equal(states().at(-1), "new");
});

test("a state that the server refuses is an error of the room", async (t) => {
  const { env, room, errors } = await watch(t);
  room.setState(1);
  env.socket.refuse("state", "forbidden");
  assert.deepEqual([errors, room.joined], [["forbidden"], true]);
  await env.pass(33);
  room.setState(2);
  env.socket.end(1006);
  assert.deepEqual(errors, ["forbidden"], "the next join sends it again");
});

test("a state is what it was when it was set", async (t) => {
  const { env, room } = await watch(t);
  const place = { x: 1 };
  room.setState(0);
  room.setState({ place });
  place.x = 2;
  await env.pass(33);
  assert.deepEqual(env.socket.last("state").state, { place: { x: 1 } });
});

test("after the last leave no handler is called", async (t) => {
  const { env, room, take } = await watch(t);
  env.socket.receive(all(1, [entry("m", "me")]));
  take();
  room.leave();
  await env.pass(1);
  env.socket.receive(frame(2, { prev: 1, gone: ["m"] }));
  assert.deepEqual(take(), []);
});

test("a state of more than 1 KiB throws", async (t) => {
  const { client, room, env } = await watch(t);
  const isTooLarge = (error) => error instanceof RealtimeError && error.code === "too_large";
  assert.throws(() => room.setState("ä".repeat(512)), isTooLarge);
  room.setState("ä".repeat(511));
  assert.throws(() => client.join("hall", { state: "x".repeat(1_024) }), isTooLarge);
  assert.deepEqual(env.socket.requests.map(({ type }) => type), ["join", "state"]);
});
