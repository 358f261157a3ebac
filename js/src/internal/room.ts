import type { Gap, Join, JoinOptions, Message, Room } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Handlers, MessageHandlers, report } from "./handlers.js";
import { before, follows, isOld, leadsOn, type Place } from "./place.js";
import { References } from "./references.js";
import type { Requests } from "./requests.js";
import { Roster } from "./roster.js";
import { asNumber, asString, toCount, toMark, type Jump, type Mark } from "./wire.js";

/** RoomClient is the part of a client that its rooms use. */
export interface RoomClient extends Pick<Room, "send" | "history"> {
  readonly requests: Requests;
  gap(gap: Gap): void;
  /** Tells the server that the client is not in the room. */
  part(): void;
  /** Removes the room, which is no longer used. */
  forget(): void;
}

/**
 * ClientRoom is a room of a client, from the first join to the last leave. It may also be a room to
 * which the server's application has added the client, and which the client does not join by
 * itself.
 */
export class ClientRoom implements Room, Place {
  readonly name: string;
  readonly send: Room["send"];
  readonly history: Room["history"];
  joined = false;

  readonly #client: RoomClient;
  readonly #requests: Requests;
  readonly #references: References;
  readonly #roster = new Roster();
  readonly #messages = new MessageHandlers();
  readonly #joins = new Handlers<[Join]>();
  readonly #gaps = new Handlers<[Gap]>();
  readonly #errors = new Handlers<[RealtimeError]>();
  readonly #changes = new Handlers<[readonly string[]]>();
  #wanted = false; // the application has joined it, and was not refused
  #given = false; // the server's application has added the client
  #offer: object | undefined; // an addition during a join, whose answer decides
  #withMembers = false;
  #newest: number | undefined; // number of earlier messages to begin with
  #first = true;
  #told = false; // onJoin has been called after a join
  #asks = 0; // only the answer to the last join counts
  #asking = false; // a join is pending; kept messages follow its answer
  #resumed = false; // the resumed session is already a member
  #at: Mark | undefined; // undefined: no history, as far as known
  #lossy = false; // messages that the server drops for this client cannot be fetched
  #top = 0; // the client has caught up at this offset
  #past = 0; // messages up to this offset were requested with the first join
  #catchingUp = false; // onJoin must be called when it has caught up
  #recovered = 0; // messages recovered so far

  constructor(name: string, client: RoomClient) {
    this.name = name;
    this.send = client.send;
    this.history = client.history;
    this.#client = client;
    this.#requests = client.requests;
    this.#references = new References(() => {
      if (this.#given && !this.#wanted) return;
      client.forget();
      this.#left();
    });
  }

  get members(): readonly string[] {
    return this.#roster.users;
  }

  get memberCount(): number {
    return this.#roster.count;
  }

  on(type: string, handler: (content: any, message: Message) => void): () => void {
    return this.#messages.add(type, handler);
  }

  onMembers(handler: (members: readonly string[]) => void): () => void {
    return this.#changes.add(handler);
  }

  onJoin(handler: (join: Join) => void): () => void {
    return this.#joins.add(handler);
  }

  onGap(handler: (gap: Gap) => void): () => void {
    return this.#gaps.add(handler);
  }

  onError(handler: (error: RealtimeError) => void): () => void {
    return this.#errors.add(handler);
  }

  leave(): void {
    this.#references.remove();
  }

  /** Whether the application has joined the room and the client is not a member yet. */
  get waits(): boolean {
    return this.#wanted && !this.joined;
  }

  /** Whether the application has not joined the room. */
  get idle(): boolean {
    return !this.#wanted && this.#references.none;
  }

  /** Adds one user of the room. refusal is the reason for which no request can be made now. */
  want({ members = false, history }: JoinOptions, refusal?: RealtimeError): void {
    this.#references.add();
    const anew = !this.#wanted;
    const list = members && !this.#withMembers;
    this.#wanted = true;
    this.#withMembers ||= members;
    if (anew) {
      this.#newest = history;
      if (history && !this.#told) { // the client may have been added before
        this.#first = true;
        this.#at = undefined;
      }
      if (refusal) queueMicrotask(() => this.#refused(refusal)); // once handlers are set
      else this.enter();
    } else if (list && this.#requests.connected) {
      this.#list();
    }
  }

  /** Joins the room if there is a connection. */
  enter(): void {
    if (!this.#wanted || !this.#requests.connected) return;
    this.#ask();
    if (this.#withMembers) this.#list();
  }

  /** Notes that the connection was lost. */
  lost(): void {
    this.joined = this.#given = false;
    this.#offer = undefined;
    this.#roster.pause();
  }

  /** Notes that the server's application has added the client. */
  put(content: unknown): void {
    if (this.#wanted && this.#asking) {
      this.#offer = Object(content);
      return;
    }
    this.#asks++;
    this.#asking = false;
    this.#given = true;
    const at = this.#at;
    const from = toMark(content);
    if (!at) {
      this.#entered(content, undefined);
    } else if (from && isOld(from, at) && at.offset <= Object(content).top) { // the rest follows
      this.#entered({ ...Object(content), ...at, recovered: true }, at);
    } else {
      this.joined = true;
      this.#ask();
    }
  }

  /** Notes that the server has removed the client. */
  removed(): void {
    const given = this.#given;
    this.#given = false;
    this.#offer = undefined;
    if (!this.#wanted) {
      this.lost();
      this.#at = undefined;
      this.#first = true;
      if (this.idle) this.#client.forget();
      return;
    }
    if (this.#asking) {
      if (given) this.joined = false;
      if (!this.joined) return; // the answer to the join decides
      this.#client.part(); // undo the join that the client repeated by itself
    }
    this.joined = false;
    this.#refused(new RealtimeError("removed", "the server has removed the client from the room"));
  }

  comesTo(mark: Mark, prev: unknown): boolean {
    const at = this.#at;
    if (this.#asking) return !at && !(this.#first && this.#newest); // else it arrives again
    if (!at || !this.#within) return true;
    if (isOld(mark, at)) return false;
    if (!follows(mark, prev, at)) {
      if (!this.#lossy || mark.epoch !== at.epoch) {
        this.#ask(); // for the missing messages and this one
        return false;
      }
      this.#missed("slow", at, before(mark, prev));
    }
    this.#at = mark;
    return true;
  }

  asked({ offset }: Mark): boolean {
    return offset <= this.#past;
  }

  took(): void {
    this.#caughtUp();
  }

  jump(jump: Jump): void {
    const at = this.#at;
    if (this.#asking || !this.#within || !at || !leadsOn(jump, at)) return;
    const { to, reason } = jump;
    if (!reason && to.epoch !== at.epoch) return this.#ask();
    this.#at = to;
    if (reason) this.#missed(reason, at, to);
    this.#caughtUp();
  }

  /** Calls the handlers of the room with a message. */
  receive(message: Message): Promise<void>[] {
    this.#resume();
    if (this.#catchingUp && message.offset !== undefined) this.#recovered++;
    if (this.#roster.follow(message)) this.#changes.call(this.members);
    return this.#messages.call(message);
  }

  /**
   * A resumed session is a member before the join is answered. If the room keeps no history,
   * handlers must learn this now, because the missed messages precede the one that has arrived.
   */
  #resume(): void {
    if (this.joined || this.#first || !this.#wanted || !this.#asking || this.#at) return;
    this.#entered(undefined, undefined);
    this.#resumed = true;
  }

  /** Sends a join, or a request for the messages after the position. */
  #ask(): void {
    const since = this.#at;
    const history = this.#first ? toCount(this.#newest) : undefined;
    const type = this.#wanted ? "join" : "recover";
    const ask = ++this.#asks;
    this.#asking = true;
    this.#resumed = false;
    this.#requests.make({ type, room: this.name, history, since }, (error, content) => {
      if (ask !== this.#asks) return;
      this.#asking = false;
      if (error && type === "recover") return this.#unrecovered(error);
      if (error) return this.#refused(error);
      if (this.#wanted) this.#given = false;
      this.#offer = undefined;
      this.#entered(content, since);
    });
  }

  get #within(): boolean {
    return this.#wanted || this.#given;
  }

  #list(): void {
    this.#requests.make({ type: "presence", room: this.name }, (error, content) => {
      if (error) this.#unlisted(error);
      else this.#listed(content);
    });
  }

  #entered(content: unknown, since: Mark | undefined): void {
    if (!this.#within || this.#resumed) return;
    const { top, recovered, reason, lossy } = Object(content);
    const first = this.#first;
    this.joined = true;
    this.#first = false;
    this.#at = toMark(content);
    this.#top = asNumber(top) ?? 0;
    this.#past = first ? this.#top : 0;
    this.#lossy = lossy === true;
    this.#catchingUp = recovered === true;
    if (this.#catchingUp) return this.#caughtUp();
    this.#in(!first, 0);
    if (!first) this.#missing(asString(reason) ?? "unknown", since, this.#at);
  }

  /** Reports that the missed messages were recovered, once they have been. */
  #caughtUp(): void {
    if (!this.#catchingUp || (this.#at && this.#at.offset < this.#top)) return;
    this.#in(false, this.#recovered);
  }

  /** Reports that messages are lost that were to be recovered. */
  #missed(reason: string, from: Mark, to: Mark | undefined): void {
    if (this.#catchingUp) this.#in(true, 0);
    this.#missing(reason, from, to);
  }

  #in(gap: boolean, recovered: number): void {
    const first = !this.#told;
    this.#told ||= this.#wanted;
    this.#catchingUp = false;
    this.#recovered = 0;
    this.#joins.call({ first, gap, recovered });
  }

  #missing(reason: string, from: Mark | undefined, to: Mark | undefined): void {
    const gap = { room: this.name, reason, from, to };
    this.#gaps.call(gap);
    this.#client.gap(gap);
  }

  #listed(content: unknown): void {
    this.#roster.list(content);
    this.#changes.call(this.members);
  }

  #refused(error: RealtimeError): void {
    if (!this.#concerns(error)) return;
    const offer = this.#offer;
    this.#wanted = false;
    if (!this.#given && !offer) {
      if (this.joined) this.#client.part(); // a refusal does not end the membership
      this.lost();
    }
    this.#report(error);
    if (offer) this.put(offer); // the client is a member nevertheless
    else if (this.#given) this.#ask();
  }

  /** Handles a refused recover request for a room to which the application has added the client. */
  #unrecovered({ code }: RealtimeError): void {
    if (!this.#requests.connected) return; // the next connection asks again
    if (code === "no_member") return this.lost();
    const at = this.#at;
    this.#at = undefined;
    if (at) this.#missed("unknown", at, undefined);
  }

  #unlisted(error: RealtimeError): void {
    if (this.#concerns(error)) this.#report(error);
  }

  /**
   * Reports whether an error matters. It does not if the next connection asks again, or if the
   * application has left the room.
   */
  #concerns({ code }: RealtimeError): boolean {
    return this.#wanted && code !== "disconnected";
  }

  #report(error: RealtimeError): void {
    if (this.#errors.size > 0) this.#errors.call(error);
    else report(error);
  }

  #left(): void {
    if (this.#wanted) this.#client.part(); // a refused room has no membership
    this.#wanted = false;
    this.lost();
  }
}
