// What the compiler must accept and reject with the published declarations.

import {
  connect, RealtimeError, type Client, type Member, type Notices, type Presence, type PresenceChange,
  type PresentUser, type Receipt, type Room,
} from "@realtime-go/client";

interface Events { // an interface, not a type alias
  chat: { text: string };
  frame: Uint8Array;
  poke: undefined;
}
type Calls = {
  add: [request: { a: number; b: number }, response: number];
  now: [request: undefined, response: string];
  thumbnail: [request: Uint8Array, response: Uint8Array];
};

const client: Client<Events, Calls> = connect<Events, Calls>("/ws", { token: async () => null });
const room: Room<Events> = client.join("lobby", { presence: true });

room.on("chat", ({ text }, { sender }) => [text satisfies string, sender satisfies string | null]);
client.on("frame", (bytes) => bytes.length satisfies number);
room.send("chat", { text: "hi" }).then(({ id }) => id satisfies string);
room.send("poke");
room.send("poke", undefined, { ttl: 1_000 }).then(({ id }) => id satisfies string);
room.send("chat", { text: "hi" }, { id: "x", ttl: 1_000 }) satisfies Promise<Receipt>;
room.send("chat", { text: "hi" }, { receipt: true }).then(({ offset }) => {
  offset satisfies number | undefined;
});
room.send("chat", { text: "hi" }, { ephemeral: true }) satisfies void;
room.send("poke", undefined, { ephemeral: true }) satisfies void;
room.send("chat", { text: "hi" }, { latest: "k" }) satisfies void;
client.conn("c").send("chat", null, { latest: "k" }) satisfies void;
room.on("chat", (_, { latest }) => latest satisfies string | undefined);

type Pointer = { x: number; y?: number };
const board: Room<Events, Pointer> = client.join<Events, Pointer>("board", { presence: true, state: { x: 1 } });
board.setState({ x: 2 });
board.setState({ y: undefined });
board.setState(null);
board.presence satisfies Presence<Pointer>;
board.onPresence((now, { joined, left, updated }) => {
  now.show satisfies "nothing" | "count" | "members";
  [now.userCount, now.connectionCount] satisfies number[];
  const [member] = [...now.members, ...joined, ...left, ...updated] satisfies Member<Pointer>[];
  if (member) [member.key, member.user ?? "", member.state?.x ?? 0, member.away, member.me] satisfies unknown[];
  const users: PresentUser<Pointer>[] = now.users();
  for (const { user, members, away, me } of users) [user ?? "", members.length, away, me];
});
board.onPresence((now: Presence<Pointer>, change: PresenceChange<Pointer>) => [now, change])();
client.join<Events, number>("lobby", { state: 1 }).setState(2);
// @ts-expect-error: not in the state
board.setState({ z: 1 });
// @ts-expect-error: wrong state
client.join<Events, Pointer>("board", { state: { x: "1" } });
// @ts-expect-error: readonly
board.presence.members = [];
// @ts-expect-error: no promise
room.send("chat", { text: "hi" }, { latest: "k" }).catch(() => {});
// @ts-expect-error: an ephemeral value
room.send("chat", { text: "hi" }, { latest: "k", ephemeral: true });
// @ts-expect-error: a time to live of a value
room.send("chat", { text: "hi" }, { latest: "k", ttl: 1_000 });
// @ts-expect-error: an id of a value
room.send("chat", { text: "hi" }, { latest: "k", id: "i" });
// @ts-expect-error: no promise
room.send("chat", { text: "hi" }, { ephemeral: true }).catch(() => {});
room.onJoin(({ first, gap, recovered }) => first && gap ? 0 : recovered satisfies number);
room.onGap(({ reason, from }) => room.history({ after: from, limit: reason.length }));
room.onGap(({ to }) => room.history({ before: to }));
room.history({ before: undefined }).then(async ({ messages, more, top }) => {
  const [oldest] = messages;
  if (more) await room.history({ before: oldest, limit: 10 });
  top.offset satisfies number | undefined;
});
client.onGap((gap) => gap.room satisfies string | undefined);
client.join("lobby", { history: 50 });
client.user("bob").send("frame", new Uint8Array(1));
client.call("add", { a: 1, b: 2 }, { timeout: 1 }) satisfies Promise<number>;
client.call("now") satisfies Promise<string>;
client.call("thumbnail", new Uint8Array(1)).then((small) => small.length satisfies number);
client.handle("sign", (bytes: Uint8Array) => bytes.slice(1));
client.server.send("frame", new Uint8Array(1)) satisfies Promise<Receipt>;
client.server.send("poke", undefined, { receipt: true }).then(({ kept }) => kept satisfies boolean | undefined);
client.handle("confirm", async ({ text }: { text: string }) => text !== "");
client.onStatus(({ retryIn }) => retryIn satisfies number | undefined);
room.onError((error) => error satisfies RealtimeError);
room.onError(({ retryAfter, data }) => [retryAfter satisfies number | undefined, data satisfies unknown]);
client.handle("refuse", () => { throw new RealtimeError("no", "never", { retryAfter: 1, data: [1] }); });
client.on("chat", (_, { connection }) => connection && client.conn(connection).send("poke"));

client.on("userjoined", ({ user_id }, { sender }) => [user_id satisfies string, sender]);
client.on("userleft", ({ message }) => message satisfies string);
client.on("userleft", (_, message) => message.content satisfies Notices["userleft"]);
connect<{ userleft: number }>("/ws").on("userleft", (n) => n satisfies number); // replaces the notice of this name

// @ts-expect-error: notices cannot be sent
room.send("userleft", {});
// @ts-expect-error: no such notice
client.on("userjoined", ({ room_id }) => room_id);
// @ts-expect-error: no such message
room.on("chats", () => {});
// @ts-expect-error: wrong content
room.send("chat", "hi");
// @ts-expect-error: no content
room.send("chat");
// @ts-expect-error: options instead of content
room.send("chat", { ttl: 1_000 });
// @ts-expect-error: a time to live of an ephemeral message
room.send("chat", { text: "hi" }, { ephemeral: true, ttl: 1_000 });
// @ts-expect-error: a receipt of an ephemeral message
room.send("chat", { text: "hi" }, { ephemeral: true, receipt: true });
// @ts-expect-error: messages have no key
room.send("chat", { text: "hi" }, { key: "k" });
// @ts-expect-error: an id of an ephemeral message
room.send("chat", { text: "hi" }, { ephemeral: true, id: "i" });
// @ts-expect-error: wrong content
room.send("chat", "hi", { ephemeral: true });
// @ts-expect-error: no request
client.call("add");
// @ts-expect-error: wrong request
client.call("add", { a: 1 });
// @ts-expect-error: JSON instead of bytes
client.call("thumbnail", { a: 1 });
// @ts-expect-error: wrong content
client.server.send("chat", "hi");
// @ts-expect-error: readonly
room.presence = board.presence;

const loose = connect(() => new URL("ws://localhost:8080/ws"));
loose.on("anything", (content) => content.whatever);
loose.all.send("anything");
loose.call("anything", 1).then((answer) => answer.whatever);
