// Pages that join rooms, set states and values, and are reloaded, at random. The arguments are their
// number and URLs of the server. The script fails if a change of presence does not lead to what the
// room shows. It prints lines of JSON: after the line "stop" of its input how much was done, once all
// pages are connected, and after "report" what each page knows, and what a new page is given.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { PageSocket } from "./pagesocket.mjs";

const [count, ...urls] = process.argv.slice(2);
const rooms = ["lobby", "board", "attic", "hall"]; // the application adds pages to the hall

const say = (line) => console.log(JSON.stringify(line));
const randomInt = (n) => Math.floor(Math.random() * n);
const oneIn = (n) => randomInt(n) === 0;

let number = 0;
let stopped = false;
const done = {}; // how often

let pages = 0; // that were opened

/** Opens a page for a person. Each page has its own copy of the library, like in a browser. */
async function open(person) {
  const { connect } = await import(`../../js/dist/realtime.js?page=${++pages}`);
  const page = { person, values: {}, joined: {}, ended: false };
  globalThis.sessionStorage = {
    getItem: (key) => person.storage.get(key) ?? null,
    setItem: (key, value) => person.storage.set(key, value),
  };
  const user = person.user ? `&user_id=${person.user}` : "";
  const url = `${urls[person.n % urls.length]}?n=${person.n}${user}`;
  page.client = connect(url, { WebSocket: PageSocket });
  page.client.onStatus(({ state }) => {
    if (state === "waiting" && (stopped || !oneIn(4))) page.client.reconnect();
    page.ended = state === "closed";
  });
  page.client.on("shape", (content, { room = "", latest }) => {
    (page.values[room] ??= {})[latest] = { content, old: false };
  });
  return page;
}

/** Notes that the page may have left a room: it is not told which values are removed there. */
function forget(page, name) {
  for (const value of Object.values(page.values[name] ?? {})) value.old = true;
}

function join(page, name) {
  const presence = !oneIn(4);
  const state = oneIn(2) ? { [randomInt(3)]: number++ } : undefined;
  const room = page.client.join(name, { presence, state });
  const joined = page.joined[name];
  if (joined) { // counted twice
    room.leave();
    joined.watches ||= presence;
    if (state) joined.state = state;
    return;
  }
  const now = page.joined[name] = { room, members: new Map(), state, watches: presence };
  room.onError(() => forget(page, name));
  room.onPresence((presence, change) => apply(now.members, presence, change));
}

/** Applies a change, which must lead to what the room shows. */
function apply(members, now, { joined, left, updated }) {
  for (const member of left) {
    assert.equal(members.get(member.key), member, "left");
    members.delete(member.key);
  }
  for (const member of joined) {
    assert.ok(!members.has(member.key), "joined");
    members.set(member.key, member);
  }
  for (const member of updated) {
    assert.notDeepEqual(members.get(member.key), member, "updated");
    assert.ok(members.has(member.key), "updated");
    members.set(member.key, member);
  }
  assert.deepEqual([...members.values()].sort(byKey), [...now.members].sort(byKey));
}

const byKey = (a, b) => (a.key < b.key ? -1 : 1);

/** What a person can do with a page, and how likely it is. */
const actions = {
  join: [40, join],
  leave: [6, (page, name) => {
    page.joined[name]?.room.leave();
    delete page.joined[name];
    forget(page, name);
  }],
  state: [25, (page, name) => {
    const joined = page.joined[name];
    if (!joined) return;
    const patch = oneIn(6) ? null : { [randomInt(3)]: number++ };
    joined.room.setState(patch);
    joined.state = patch && { ...joined.state, ...patch };
  }],
  value: [25, (page, name) => {
    const content = oneIn(3) ? null : number++;
    page.joined[name]?.room.send("shape", content, { latest: `k${randomInt(12)}` });
  }],
  reload: [3, async (page) => {
    page.client.close();
    await sleep(randomInt(oneIn(4) ? 2_000 : 100));
    page.person.page = await open(page.person);
  }],
};
const choices = Object.entries(actions).flatMap(([name, [share]]) => Array(share).fill(name));

async function live(person) {
  while (!stopped) {
    await sleep(randomInt(200));
    const action = person.page.ended ? "reload" : choices[randomInt(choices.length)];
    const name = rooms[oneIn(4) ? 2 + randomInt(2) : randomInt(2)];
    done[action] = (done[action] ?? 0) + 1;
    await actions[action][1](person.page, name);
  }
  while (person.page.client.status.state !== "open") {
    if (person.page.ended) await actions.reload[1](person.page);
    if (person.page.client.status.state === "waiting") person.page.client.reconnect();
    await sleep(10);
  }
}

/** Prints what a page knows of each room. */
function report({ person: { n }, values, joined }) {
  for (const room of rooms) {
    const now = joined[room];
    const members = now?.watches && now.room.joined ? now.room.presence.members : undefined;
    say({
      n, room, members,
      users: now?.room.presence.userCount, conns: now?.room.presence.connectionCount,
      applied: now && [...now.members.values()].sort(byKey).map(({ key }) => key),
      state: now?.state, knowsState: now?.state !== undefined, values: values[room] ?? {},
    });
  }
}

const people = Array.from({ length: Number(count) }, (_, n) => {
  return { n, user: n % 10 ? `user${n >> 1}` : "", storage: new Map() };
});
for (const person of people) person.page = await open(person);
const lives = people.map(live);
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "stop") {
    stopped = true;
    await Promise.all(lives);
    say({ stopped: done });
  } else if (line === "report") {
    for (const { page } of people) report(page);
    const fresh = await open({ n: people.length, user: "fresh", storage: new Map() });
    for (const name of rooms) fresh.joined[name] = { room: fresh.client.join(name), members: new Map() };
    while (!rooms.every((name) => fresh.joined[name].room.joined)) await sleep(10);
    await fresh.client.ping();
    await sleep(1_000);
    report(fresh);
    say({ end: true });
  }
}
process.exit();
