import type {
  CallOptions, Client, Gap, History, HistoryQuery, JoinOptions, Message, Outbox, Receipt, Room,
  Sender, SendOptions, Status,
} from "../api.js";
import { RealtimeError } from "../errors.js";
import { Connection } from "./connection.js";
import { Handlers, MessageHandlers, report } from "./handlers.js";
import { isValidId, randomId } from "./id.js";
import { Inbox } from "./inbox.js";
import type { Socket, Welcome } from "./link.js";
import { Methods, type Call } from "./methods.js";
import type { Subscription } from "./position.js";
import { References } from "./references.js";
import { Requests, type Body, type OpenConnection, type RequestOptions } from "./requests.js";
import { ClientRoom } from "./room.js";
import { Seen } from "./seen.js";
import type { Source } from "./source.js";
import { Throttle } from "./throttle.js";
import { Values } from "./values.js";
import {
  encode, toArray, toCount, toHistory, toMilliseconds, toPosition, type Frame,
} from "./wire.js";

const CALL_TIMEOUT = 10_000; // milliseconds
const MAX_LEFT = 1_000; // rooms
const TOKEN_TIMEOUT = 30_000; // milliseconds, for a new token

/** The options of a message of any kind. */
type AnyOptions = Partial<Record<keyof SendOptions, any>>;

/** RealtimeClient implements the public Client. Its message contents are untyped. */
export class RealtimeClient implements Client {
  readonly all = this.#sender({ all: true });
  readonly server = this.#sender({ server: true });
  readonly references: References;
  userId: string | null = null;
  connectionId: string | null = null;

  readonly #source: Source;
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #throttle: Throttle; // of values to connections
  readonly #rooms = new Map<string, ClientRoom>();
  readonly #methods = new Methods();
  readonly #messages = new MessageHandlers();
  readonly #values = new Values((message) => this.#messages.call(message));
  readonly #statuses = new Handlers<[Status]>();
  readonly #gaps = new Handlers<[Gap]>();
  readonly #inbox: Inbox;
  readonly #seen = new Seen();
  readonly #leftRooms = new Set<string>(); // rooms of which a resumed session may still be a member
  readonly #unreported: Status[] = []; // statuses that handlers have not been called with
  #session: string | undefined; // token with which the next connection may resume
  #unsure = false; // whether that session is the one before, whose resume was not answered
  #first = true; // no connection has opened yet
  #openConnection: OpenConnection | undefined; // undefined while there is no open connection
  #refreshing: OpenConnection | undefined; // the connection for which a new token is requested
  #refreshedAt = 0; // when that request began

  constructor(source: Source, Socket: Socket, outbox: Outbox | undefined, forget: () => void) {
    this.#source = source;
    this.#requests = new Requests(outbox);
    this.#throttle = new Throttle(this.#requests, () => this.#requests.connected);
    this.#inbox = new Inbox(this.#requests, (gap) => this.#reportGap(gap));
    this.references = new References(() => {
      forget();
      this.#connection.close();
    });
    this.#connection = new Connection(source, Socket, {
      welcome: (welcome) => this.#opened(welcome),
      frame: (frame) => this.#receive(frame),
      lost: (resumable) => this.#lost(resumable),
      status: (status) => this.#reportStatus(status),
    });
  }

  get status(): Status {
    return this.#connection.status;
  }

  user(id: string): Sender {
    return this.#sender({ user: id });
  }

  conn(id: string): Sender {
    return this.#sender({ conn: id });
  }

  join(name: string, options: JoinOptions = {}): Room<any> {
    const room = this.#rooms.get(name) ?? this.#newRoom(name);
    const waiting = [...this.#rooms.values()].filter(({ isPending }) => isPending).length;
    room.join(options, this.#requests.refusal(waiting));
    return room;
  }

  on(type: string, handler: (content: any, message: Message) => void): () => void {
    return this.#messages.add(type, handler);
  }

  onGap(handler: (gap: Gap) => void): () => void {
    return this.#gaps.add(handler);
  }

  onStatus(handler: (status: Status) => void): () => void {
    return this.#statuses.add(handler);
  }

  call(method: string, content?: unknown, options: CallOptions = {}): Promise<any> {
    const { timeout = CALL_TIMEOUT } = options;
    return this.#request({ type: "call", method, content }, { timeout });
  }

  handle(method: string, handler: (content: any) => unknown): () => void {
    return this.#methods.set(method, handler);
  }

  async ping(): Promise<number> {
    const start = performance.now();
    await this.#request({ type: "ping" }, { repeat: true });
    return performance.now() - start;
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    this.references.remove();
  }

  #newRoom(name: string): ClientRoom {
    const room = new ClientRoom(name, {
      sender: (throttle) => this.#sender({ room: name }, throttle).send,
      receive: (message) => this.#messages.call(message),
      history: (query) => this.#history(name, query),
      requests: this.#requests,
      reportGap: (gap) => this.#reportGap(gap),
      sendLeave: () => this.#sendLeave(name),
      remove: () => this.#rooms.delete(name),
    });
    this.#rooms.set(name, room);
    return room;
  }

  /** Leaves a room: now, or when a session is resumed that may still be a member. */
  #sendLeave(room: string): void {
    if (this.#session && this.#leftRooms.add(room).size > MAX_LEFT) { // a new session costs less
      this.#session = undefined;
      this.#leftRooms.clear();
    }
    if (!this.#openConnection) return;
    this.#requests.send({ type: "leave", room }, (error) => {
      if (error?.code !== "disconnected") this.#leftRooms.delete(room); // any other answer: out
    });
  }

  #sender(to: object, throttle?: Throttle): Sender {
    return {
      send: (type: string, content?: unknown, options: AnyOptions = {}): any => {
        const { ephemeral, latest } = options;
        const body = { type: "send", ...to, message_type: type, latest, content };
        if (!ephemeral && latest === undefined) return this.#send(body, options);
        this.#sendNow(body, options, throttle ?? this.#throttle, JSON.stringify([to, latest]));
      },
    };
  }

  async #send(
    body: Body, { id = randomId(), ttl, receipt = false }: AnyOptions,
  ): Promise<Receipt> {
    if (!isValidId(id)) throw new RealtimeError("bad_request", "invalid id of a message");
    const more = { message_id: id, ttl_ms: toMilliseconds(ttl), receipt: receipt || undefined };
    const answer = await this.#request({ ...body, ...more }, { repeat: true });
    return { ...(receipt ? answer : {}), id };
  }

  /** Sends a message that has no answer: an ephemeral one, or a value. */
  #sendNow(
    body: Body, { id, ttl, receipt, ephemeral, latest }: AnyOptions, throttle: Throttle,
    key: string,
  ): void {
    const isValue = latest !== undefined;
    if (id || ttl || receipt || (isValue && (ephemeral || !isValidId(latest)))) {
      throw new RealtimeError("bad_request", "invalid options of a message");
    }
    const data = encode({ ...body, ephemeral });
    const send = () => this.#requests.sendNow(data);
    if (!isValue) return send();
    this.#requests.check(data);
    throttle.set(key, send);
  }

  async #history(
    room: string, { limit, before, after }: HistoryQuery = {},
  ): Promise<History> {
    const { offset, epoch } = before ?? after ?? {};
    const bound = before ? { before: offset, epoch } : { after: offset, epoch };
    const body = { type: "history", room, limit: toCount(limit), ...bound };
    return toHistory(await this.#request(body, { repeat: true }));
  }

  #request(body: Body, options: RequestOptions): Promise<any> {
    return new Promise((resolve, reject) => {
      const refusal = this.status.state === "closed"
        ? closed(this.status)
        : this.#requests.refusal();
      if (refusal) throw refusal;
      this.#requests.send(body, (error, content) => {
        if (error) reject(error);
        else resolve(content);
      }, options);
    });
  }

  #opened({ userId, connectionId, maxMessageBytes, inbox, session }: Welcome): void {
    this.userId = userId;
    this.connectionId = connectionId;
    const connection = this.#connection;
    this.#openConnection = {
      write: (data) => connection.write(data),
      get buffered() { return connection.buffered; },
      maxBytes: maxMessageBytes,
      calls: 0,
    };
    this.#requests.open(this.#openConnection);
    this.#resume(session);
    for (const room of this.#rooms.values()) room.sendJoin(); // before requests that may need them
    this.#requests.flush();
    this.#throttle.run();
    if (!inbox && !this.#first) {
      this.#reportGap({ room: undefined, reason: "unknown", from: undefined, to: undefined });
    }
    this.#first = false;
    this.#inbox.open(inbox);
  }

  /**
   * Resumes the session of the last connection if the server has kept it, and leaves the rooms that
   * were left meanwhile. The values for the connection end with the session.
   */
  #resume(next: string | undefined): void {
    const session = this.#session;
    this.#session = next;
    const left = [...this.#leftRooms].filter((room) => !this.#rooms.has(room));
    this.#leftRooms.clear();
    const removals = this.#values.removals;
    const unsure = this.#unsure;
    this.#unsure = !!session;
    if (!session) return this.#values.remove(removals);
    this.#requests.send({ type: "resume", session }, (error, content) => {
      if (error?.code === "disconnected") return;
      this.#unsure = false;
      if (error || unsure) this.#values.remove(removals); // those that exist arrive again
      for (const room of toArray(Object(content).rooms)) this.#rooms.get(room as string)?.resumed();
    });
    for (const room of left) this.#sendLeave(room);
  }

  #reportGap(gap: Gap): void {
    this.#gaps.call(gap);
  }

  #lost(resumable: boolean): void {
    this.connectionId = null;
    this.#openConnection = undefined;
    if (!resumable) this.#session = undefined;
    this.#requests.disconnected();
    let most = MAX_LEFT;
    for (const [name, room] of [...this.#rooms].reverse()) {
      room.lost();
      if (room.idle && most-- <= 0) this.#rooms.delete(name); // the oldest without a join
    }
  }

  #reportStatus(status: Status): void {
    if (status.state === "closed") this.#requests.end(closed(status));
    if (this.#unreported.push(status) > 1) return; // called by a handler: the loop below continues
    for (const next of this.#unreported) this.#statuses.call(next);
    this.#unreported.length = 0;
  }

  #receive(frame: Frame): void {
    switch (frame.kind) {
      case "message":
        return this.#deliver(frame.message, frame.prev);
      case "value":
        return this.#valuesOf(frame.message.room)?.receive(frame.message);
      case "latest":
        return this.#valuesOf(frame.room)?.update(frame.raw);
      case "presence":
        return this.#rooms.get(frame.room ?? "")?.updatePresence(frame.raw);
      case "call":
        return void this.#serve(frame);
      case "joined":
        return this.#addedByServer(frame);
      case "left":
        return this.#rooms.get(frame.room ?? "")?.removed();
      case "position":
        return this.#subscriptionOf(frame.room)?.updatePosition(frame);
      case "reply":
        return this.#requests.answer(frame.id, null, frame.content);
      case "error":
        if (frame.id !== null) return this.#requests.answer(frame.id, frame.error);
        if (frame.error.code === "expired") return void this.#refresh();
        return this.#refused(frame);
    }
  }

  /** Reports that a message or a state, which has no answer, was refused. */
  #refused({ room: name, error }: { room: string | undefined; error: RealtimeError }): void {
    const room = this.#rooms.get(name ?? "");
    if (room) room.report(error);
    else report(error);
  }

  #addedByServer({ room: name, content }: { room: string | undefined; content: unknown }): void {
    if (name !== undefined) (this.#rooms.get(name) ?? this.#newRoom(name)).addedByServer(content);
  }

  #deliver(message: Message, prev: unknown): void {
    const position = toPosition(message);
    const subscription = position && this.#subscriptionOf(message.room);
    if (position && subscription && !subscription.accept(position, prev)) return;
    const work = this.#callHandlers(message, !!position && !!subscription?.isRequested(position));
    if (position) subscription?.noteShown(position, work);
    if (message.id !== undefined && subscription !== this.#inbox) this.#inbox.noteElsewhere(work);
  }

  /**
   * Calls the handlers of a message. If the message was shown before and is not requested again, it
   * returns the earlier work, which may still be running.
   */
  #callHandlers(message: Message, requested: boolean): Promise<void>[] {
    const { room } = message;
    const key = dedupKey(message);
    const known = key && this.#seen.get(key);
    if (known && !requested) return known;
    const work = room === undefined ? [] : this.#rooms.get(room)?.receive(message) ?? [];
    work.push(...this.#messages.call(message));
    if (key) this.#seen.add(key, work);
    return work;
  }

  #subscriptionOf(room: string | undefined): Subscription | undefined {
    return room === undefined ? this.#inbox : this.#rooms.get(room);
  }

  #valuesOf(room: string | undefined): Values | undefined {
    return room === undefined ? this.#values : this.#rooms.get(room)?.values;
  }

  async #serve(call: Call): Promise<void> {
    const open = this.#openConnection;
    if (!open) return;
    const answer = await this.#methods.answer(call, open);
    // An answer is valid only on its connection. A server that does not read gets none.
    if (open === this.#openConnection && !this.#requests.stalled) open.write(answer);
  }

  /**
   * Sends a new token to the server. Without one the server ends the connection some time later.
   */
  async #refresh(): Promise<void> {
    const open = this.#openConnection;
    const now = performance.now();
    const timedOut = () => performance.now() - this.#refreshedAt >= TOKEN_TIMEOUT;
    if (!this.#source.renewable) return;
    if (open === this.#refreshing && !timedOut()) return; // one at a time
    this.#refreshing = open;
    this.#refreshedAt = now;
    const token = await this.#source.token().catch(() => undefined);
    const isLate = open !== this.#openConnection || now !== this.#refreshedAt || timedOut();
    if (isLate) return;
    this.#refreshing = undefined;
    if (token) this.#requests.send({ type: "refresh", token }, () => {});
  }
}

/**
 * Returns the key of a message that can be recognised when it arrives twice: a message to several
 * targets arrives through each of them.
 */
function dedupKey({ sender, guest, id, room, epoch, offset }: Message): string | undefined {
  if (id !== undefined) return JSON.stringify([sender, id, guest ?? ""]);
  // There is no key without a numeric offset.
  return toPosition({ epoch, offset }) && JSON.stringify([room, epoch, offset]);
}

function closed({ reason }: Status): RealtimeError {
  return new RealtimeError("closed", reason || "the connection has ended for good");
}
