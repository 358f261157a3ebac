import type { Gap, Join, JoinOptions, Message, Room } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Handlers, MessageHandlers, report } from "./handlers.js";
import { before, follows, isOld, leadsOn, type Place } from "./place.js";
import { References } from "./references.js";
import type { Requests } from "./requests.js";
import { Roster } from "./roster.js";
import { asNumber, asString, toCount, toMark, type Jump, type Mark } from "./wire.js";

/** What a room has of its client. */
export interface RoomClient extends Pick<Room, "send" | "history"> {
  readonly requests: Requests;
  gap(gap: Gap): void;
  /** Tells the server that we are not in the room. */
  part(): void;
  /** Nobody wants the room any more. */
  forget(): void;
}

/**
 * ClientRoom is a room of a client, from the first join to the last leave; or one that the server's
 * application has put us into, which we do not join by ourselves.
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
  #wanted = false; // until it is refused
  #given = false; // we are in without having asked
  #offer: object | undefined; // the same, while a join is not answered, which decides
  #withMembers = false;
  #newest: number | undefined; // how many messages to begin with
  #first = true;
  #told = false; // of a join
  #asks = 0; // the answer to the last one counts
  #asking = false; // a join is not answered: what is kept comes again behind the answer
  #resumed = false; // and we are in already
  #at: Mark | undefined; // undefined: nothing is kept, as far as we know
  #lossy = false; // what is left out for us is not to be had again
  #top = 0; // caught up from this offset on
  #past = 0; // up to here we asked for it when we came
  #catchingUp = false; // and onJoin is told when it is done
  #recovered = 0; // messages meanwhile

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

  /** Whether it has been asked for and we are not in. */
  get waits(): boolean {
    return this.#wanted && !this.joined;
  }

  /** Whether nobody has asked for it. */
  get idle(): boolean {
    return !this.#wanted && this.#references.none;
  }

  /** One more wants it. refusal is why the server cannot be asked now. */
  want({ members = false, history }: JoinOptions, refusal?: RealtimeError): void {
    this.#references.add();
    const anew = !this.#wanted;
    const list = members && !this.#withMembers;
    this.#wanted = true;
    this.#withMembers ||= members;
    if (anew) {
      this.#newest = history;
      if (history && !this.#told) { // we may have been put in before
        this.#first = true;
        this.#at = undefined;
      }
      if (refusal) queueMicrotask(() => this.#refused(refusal)); // handlers are set by then
      else this.enter();
    } else if (list && this.#requests.connected) {
      this.#list();
    }
  }

  /** Asks to be let in, if there is a connection. */
  enter(): void {
    if (!this.#wanted || !this.#requests.connected) return;
    this.#ask();
    if (this.#withMembers) this.#list();
  }

  /** The connection is gone. */
  lost(): void {
    this.joined = this.#given = false;
    this.#offer = undefined;
    this.#roster.pause();
  }

  /** The server's application has put us in. */
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
    } else if (from && isOld(from, at) && at.offset <= Object(content).top) { // it comes anyway
      this.#entered({ ...Object(content), ...at, recovered: true }, at);
    } else {
      this.joined = true;
      this.#ask();
    }
  }

  /** The server has taken us out. */
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
      if (!this.joined) return; // the answer says how it goes on
      this.#client.part(); // we have not asked to be let in again
    }
    this.joined = false;
    this.#refused(new RealtimeError("removed", "the server has taken us out of the room"));
  }

  comesTo(mark: Mark, prev: unknown): boolean {
    const at = this.#at;
    if (this.#asking) return !at && !(this.#first && this.#newest); // else it comes again
    if (!at || !this.#within) return true;
    if (isOld(mark, at)) return false;
    if (!follows(mark, prev, at)) {
      if (!this.#lossy || mark.epoch !== at.epoch) {
        this.#ask(); // for what is missing, and this one again
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

  /** Takes a message to the room. */
  receive(message: Message): Promise<void>[] {
    this.#resume();
    if (this.#catchingUp && message.offset !== undefined) this.#recovered++;
    if (this.#roster.follow(message)) this.#changes.call(this.members);
    return this.#messages.call(message);
  }

  /**
   * A session that goes on is in the room before the join is answered. Of a room that keeps nothing
   * that has to be told now: what was missed lies in front of what comes.
   */
  #resume(): void {
    if (this.joined || this.#first || !this.#wanted || !this.#asking || this.#at) return;
    this.#entered(undefined, undefined);
    this.#resumed = true;
  }

  /** Asks to be let in, or once more for what is behind the position. */
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

  /** Says so, if it is the case. */
  #caughtUp(): void {
    if (!this.#catchingUp || (this.#at && this.#at.offset < this.#top)) return;
    this.#in(false, this.#recovered);
  }

  /** What was to come is lost. */
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
      if (this.joined) this.#client.part(); // the server does not do it
      this.lost();
    }
    this.#report(error);
    if (offer) this.put(offer); // we are in nevertheless
    else if (this.#given) this.#ask();
  }

  /** The server has not gone back to where we are in a room that it has put us into. */
  #unrecovered({ code }: RealtimeError): void {
    if (!this.#requests.connected) return; // the next one asks anew
    if (code === "no_member") return this.lost();
    const at = this.#at;
    this.#at = undefined;
    if (at) this.#missed("unknown", at, undefined);
  }

  #unlisted(error: RealtimeError): void {
    if (this.#concerns(error)) this.#report(error);
  }

  /** Whether an error is news: not if the next connection asks anew, or nobody asks any more. */
  #concerns({ code }: RealtimeError): boolean {
    return this.#wanted && code !== "disconnected";
  }

  #report(error: RealtimeError): void {
    if (this.#errors.size > 0) this.#errors.call(error);
    else report(error);
  }

  #left(): void {
    if (this.#wanted) this.#client.part(); // not if we were refused
    this.#wanted = false;
    this.lost();
  }
}
