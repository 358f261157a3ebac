import type { CallOptions, Client, JoinOptions, Message, Outbox, Sender, Status } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Connection } from "./connection.js";
import { Handlers, MessageHandlers } from "./handlers.js";
import { randomId } from "./id.js";
import type { Socket, Welcome } from "./link.js";
import { Methods, type Call } from "./methods.js";
import { References } from "./references.js";
import { Requests, type Body, type Line, type Manner } from "./requests.js";
import { ClientRoom } from "./room.js";
import { Seen } from "./seen.js";
import type { Source } from "./source.js";
import type { Frame } from "./wire.js";

const CALL_TIMEOUT = 10_000; // milliseconds

/** RealtimeClient is what an application has of a connection. Its contents have no types yet. */
export class RealtimeClient implements Client {
  readonly all = this.#sender({ all: true });
  readonly references: References;
  userId: string | null = null;
  connectionId: string | null = null;

  readonly #source: Source;
  readonly #connection: Connection;
  readonly #requests: Requests;
  readonly #rooms = new Map<string, ClientRoom>();
  readonly #methods = new Methods();
  readonly #messages = new MessageHandlers();
  readonly #statuses = new Handlers<[Status]>();
  readonly #seen = new Seen();
  #line: Line | undefined; // while it is open

  constructor(source: Source, Socket: Socket, outbox: Outbox | undefined, forget: () => void) {
    this.#source = source;
    this.#requests = new Requests(outbox);
    this.references = new References(() => {
      forget();
      this.#connection.close();
    });
    this.#connection = new Connection(source, Socket, {
      welcome: (welcome) => this.#opened(welcome),
      frame: (frame) => this.#receive(frame),
      lost: () => this.#lost(),
      status: (status) => this.#report(status),
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

  join(name: string, options: JoinOptions = {}): ClientRoom {
    const room = this.#rooms.get(name) ?? this.#newRoom(name);
    room.want(options);
    return room;
  }

  on(type: string, handler: (content: any, message: Message) => void): () => void {
    return this.#messages.add(type, handler);
  }

  onStatus(handler: (status: Status) => void): () => void {
    return this.#statuses.add(handler);
  }

  call(method: string, content?: unknown, options: CallOptions = {}): Promise<any> {
    const { timeout = CALL_TIMEOUT } = options;
    return this.#ask({ type: "call", method, content }, { timeout });
  }

  handle(method: string, handler: (content: any) => unknown): () => void {
    return this.#methods.set(method, handler);
  }

  async ping(): Promise<number> {
    const start = performance.now();
    await this.#ask({ type: "ping" }, { repeat: true });
    return performance.now() - start;
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    this.references.remove();
  }

  #newRoom(name: string): ClientRoom {
    const { send } = this.#sender({ room: name });
    const room = new ClientRoom(name, this.#requests, send, () => this.#rooms.delete(name));
    this.#rooms.set(name, room);
    return room;
  }

  #sender(to: object): Sender {
    return {
      send: (type: string, content?: unknown) => this.#ask(
        { type: "send", ...to, message_type: type, content, message_id: randomId() },
        { repeat: true },
      ),
    };
  }

  #ask(body: Body, manner: Manner): Promise<any> {
    return new Promise((resolve, reject) => {
      if (this.status.state === "closed") throw closed(this.status);
      this.#requests.make(body, (error, content) => {
        if (error) reject(error);
        else resolve(content);
      }, manner);
    });
  }

  #opened({ userId, connectionId, maxMessageBytes }: Welcome): void {
    this.userId = userId;
    this.connectionId = connectionId;
    this.#line = { write: (data) => this.#connection.write(data), maxBytes: maxMessageBytes };
    this.#requests.open(this.#line);
    for (const room of this.#rooms.values()) room.enter(); // before what waits, which may be for them
    this.#requests.flush();
  }

  #lost(): void {
    this.connectionId = null;
    this.#line = undefined;
    this.#requests.cut();
    for (const room of this.#rooms.values()) room.lost();
  }

  #report(status: Status): void {
    if (status.state === "closed") this.#requests.abandon(closed(status));
    this.#statuses.call(status);
  }

  #receive(frame: Frame): void {
    switch (frame.kind) {
      case "message":
        return this.#deliver(frame.message);
      case "call":
        return void this.#serve(frame);
      case "left":
        return this.#rooms.get(frame.room ?? "")?.removed();
      case "reply":
        return this.#requests.answer(frame.id, null, frame.content);
      case "error":
        if (frame.id === null && frame.error.code === "expired") void this.#refresh();
        return this.#requests.answer(frame.id, frame.error);
    }
  }

  #deliver(message: Message): void {
    const { id, room, sender } = message;
    if (id !== undefined && !this.#seen.add(sender, id)) return;
    if (room !== undefined) this.#rooms.get(room)?.receive(message);
    this.#messages.call(message);
  }

  async #serve(call: Call): Promise<void> {
    const line = this.#line;
    if (!line) return;
    const answer = await this.#methods.answer(call, line.maxBytes);
    if (line === this.#line) line.write(answer); // another connection has other calls
  }

  /** Gives the server a newer token. If there is none it ends the connection in a while. */
  async #refresh(): Promise<void> {
    const line = this.#line;
    const token = this.#source.renews && await this.#source.token().catch(() => undefined);
    if (!token || line !== this.#line) return;
    this.#requests.make({ type: "refresh", token }, () => {});
  }
}

function closed({ reason }: Status): RealtimeError {
  return new RealtimeError("closed", reason || "the connection has ended for good");
}
