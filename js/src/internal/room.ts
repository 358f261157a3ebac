import type {
  Gap, Join, JoinOptions, Message, Presence, PresenceChange, Room,
} from "../api.js";
import { RealtimeError } from "../errors.js";
import { Handlers, MessageHandlers, report } from "./handlers.js";
import { applies, covers, follows, positionBefore, type Subscription } from "./position.js";
import { RoomPresence } from "./presence.js";
import { References } from "./references.js";
import type { Requests, Settle } from "./requests.js";
import { patched } from "./state.js";
import { Throttle } from "./throttle.js";
import { Values } from "./values.js";
import {
  asNumber, asString, toCount, toPosition, type KnownPosition, type PositionUpdate, type Raw,
} from "./wire.js";

/** RoomClient is the part of a client that its rooms use. */
export interface RoomClient extends Pick<Room, "history"> {
  readonly requests: Requests;
  /** Returns a function that sends to the room, and values through a throttle. */
  sender(throttle: Throttle): Room["send"];
  /** Calls the handlers of the client. */
  receive(message: Message): Promise<void>[];
  reportGap(gap: Gap): void;
  /** Sends a leave for the room. */
  sendLeave(): void;
  /** Removes the room, which is no longer used. */
  remove(): void;
}

/**
 * ClientRoom is a room of a client, from the first join to the last leave. It may also be a room to
 * which the server's application has added the client, and which the client does not join by
 * itself.
 */
export class ClientRoom implements Room, Subscription {
  readonly name: string;
  readonly send: Room["send"];
  readonly history: Room["history"];
  /** The latest values of the room. */
  readonly values = new Values((message) => {
    return [...this.#messages.call(message), ...this.#client.receive(message)];
  });
  joined = false;

  readonly #client: RoomClient;
  readonly #requests: Requests;
  readonly #references: References;
  readonly #throttle: Throttle;
  readonly #presence = new RoomPresence();
  readonly #messages = new MessageHandlers();
  readonly #joins = new Handlers<[Join]>();
  readonly #gaps = new Handlers<[Gap]>();
  readonly #errors = new Handlers<[RealtimeError]>();
  #wanted = false; // the application has joined it, and was not refused
  #added = false; // the server's application has added the client
  #addition: object | undefined; // an addition during a join, whose answer decides
  #ignored = false; // kept messages arrived during the join
  #state: unknown; // JSON; undefined: the application has never set it
  #historyCount: number | undefined; // number of earlier messages to begin with
  #first = true;
  #reported = false; // onJoin has been called after a join
  #joinNumber = 0; // only the answer to the last join counts
  #joining = false; // a join is pending; kept messages follow its answer
  #resumed = false; // the resumed session is already a member, and handlers know
  #kept = false; // the resumed session is already a member, as the server says
  #at: KnownPosition | undefined; // undefined: no history, as far as known
  #lossy = false; // messages that the server drops for this client cannot be fetched
  #top = 0; // the client has caught up at this offset
  #requestedUpTo = 0; // messages up to this offset were requested with the first join
  #recovering = false; // onJoin must be called when it has caught up
  #recovered = 0; // messages recovered so far

  constructor(name: string, client: RoomClient) {
    this.name = name;
    this.history = client.history;
    this.#client = client;
    this.#requests = client.requests;
    this.#throttle = new Throttle(client.requests, () => this.joined);
    this.send = client.sender(this.#throttle);
    this.#references = new References(() => {
      if (this.#added && !this.#wanted) return this.#ignorePresence();
      client.remove();
      this.#finishLeave();
    });
  }

  get presence(): Presence {
    return this.#presence.now;
  }

  on(type: string, handler: (content: any, message: Message) => void): () => void {
    return this.#messages.add(type, handler);
  }

  onPresence(handler: (now: Presence, change: PresenceChange) => void): () => void {
    return this.#presence.handlers.add(handler);
  }

  setState(patch: unknown): void {
    this.#keepState(patched(this.#state, patch));
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
  get isPending(): boolean {
    return this.#wanted && !this.joined;
  }

  /** Whether the application has not joined the room. */
  get idle(): boolean {
    return !this.#wanted && this.#references.isEmpty;
  }

  /** Adds one user of the room. refusal is the reason for which no request can be made now. */
  join({ presence = false, state, history }: JoinOptions, refusal?: RealtimeError): void {
    if (state !== undefined) this.#keepState(patched(undefined, state));
    this.#references.add();
    const isNew = !this.#wanted;
    this.#wanted = true;
    this.#presence.wanted ||= presence;
    if (isNew) {
      this.#historyCount = history;
      if (history && !this.#reported) { // the client may have been added before
        this.#first = true;
        this.#at = undefined;
      }
      if (refusal) queueMicrotask(() => this.#joinRefused(refusal)); // once handlers are set
      else this.sendJoin();
    } else if (presence) {
      this.#requestState();
    }
  }

  /** Joins the room if there is a connection. */
  sendJoin(): void {
    if (this.#wanted && this.#requests.connected) this.#requestJoin();
  }

  /** Notes that the connection was lost. */
  lost(): void {
    const from = toPosition(this.#addition);
    if (from && this.#first && !this.#historyCount) { // messages after it were ignored
      this.#at = from;
      this.#first = false;
    }
    this.joined = this.#added = this.#kept = false;
    this.#addition = undefined;
    this.#presence.stop();
    this.values.hold();
  }

  /** Notes that the session was resumed, and is a member. */
  resumed(): void {
    this.#kept = true;
  }

  /** Notes that the server's application has added the client. */
  addedByServer(content: unknown): void {
    if (this.#wanted && this.#joining) {
      this.#addition = Object(content);
      return;
    }
    this.#presence.answered(content);
    this.#joinNumber++;
    this.#joining = false;
    this.#added = true;
    const at = this.#at;
    const from = toPosition(content);
    const asks = this.#presence.wanted || this.values.held; // for more than messages
    if (!at) {
      this.#applyJoin(content, undefined);
      this.#requestState();
    } else if (!asks && from && covers(at, from) && at.offset <= Object(content).top) {
      // The rest follows.
      this.#applyJoin({ ...Object(content), ...at, recovered: true }, at);
    } else {
      this.joined = true;
      this.#requestJoin();
    }
  }

  /** Notes that the server has removed the client. */
  removed(): void {
    const added = this.#added;
    this.#added = this.#kept = false;
    this.#addition = undefined;
    if (!this.#wanted) {
      this.#ended();
      this.#at = undefined;
      this.#first = true;
      if (this.idle) this.#client.remove();
      return;
    }
    if (this.#joining) {
      if (added) this.joined = false;
      if (!this.joined) return; // the answer to the join decides
      this.#client.sendLeave(); // undo the join that the client repeated by itself
    }
    this.joined = false;
    const message = "the server has removed the client from the room";
    this.#joinRefused(new RealtimeError("removed", message));
  }

  accept(position: KnownPosition, prev: unknown): boolean {
    const at = this.#at;
    if (this.#joining) { // kept messages follow the answer, unless the room has no position
      const ignore = at || this.#addition || (this.#first && this.#historyCount);
      this.#ignored ||= !!ignore;
      return !ignore;
    }
    if (!at || !this.#active) return true;
    if (covers(at, position)) return false;
    if (!follows(position, prev, at)) {
      if (!this.#lossy || position.epoch !== at.epoch) {
        this.#requestJoin(); // for the missing messages and this one
        return false;
      }
      this.#reportGap("slow", at, positionBefore(position, prev));
    }
    this.#at = position;
    return true;
  }

  isRequested({ offset }: KnownPosition): boolean {
    return offset <= this.#requestedUpTo;
  }

  noteShown(): void {
    this.#finishRecovery();
  }

  updatePosition(update: PositionUpdate): void {
    const at = this.#at;
    if (this.#joining || !this.#active || !at || !applies(update, at)) return;
    const { to, reason } = update;
    if (!reason && to.epoch !== at.epoch) return this.#requestJoin();
    this.#at = to;
    if (reason) this.#reportGap(reason, at, to);
    this.#finishRecovery();
  }

  /** Calls the handlers of the room with a message. */
  receive(message: Message): Promise<void>[] {
    this.#noteResumed();
    if (this.#recovering && message.offset !== undefined) this.#recovered++;
    return this.#messages.call(message);
  }

  /** Handles a presence frame. */
  updatePresence(frame: Raw): void {
    if (this.#presence.receive(frame)) this.#requestState();
  }

  /** Reports an error to the handlers of the room, if there are any. */
  report(error: RealtimeError): void {
    if (this.#errors.size > 0) this.#errors.call(error);
    else report(error);
  }

  /**
   * A resumed session is a member before the join is answered. If the room keeps no history,
   * handlers must learn this now, because the missed messages precede the one that has arrived.
   */
  #noteResumed(): void {
    if (this.joined || this.#first || !this.#wanted || !this.#joining || this.#at) return;
    this.#applyJoin(undefined, undefined);
    this.#resumed = true;
  }

  /** Sends a join, or a request for the messages after the position. */
  #requestJoin(): void {
    const since = this.#at;
    const history = this.#first ? toCount(this.#historyCount) : undefined;
    const recovering = !this.#wanted;
    const number = ++this.#joinNumber;
    this.#joining = true;
    this.#resumed = this.#ignored = false;
    this.#sendJoin(this.#presence.ask(), { history, since }, (error, content) => {
      if (number !== this.#joinNumber) return;
      this.#joining = false;
      if (error && recovering) return this.#recoverRefused(error);
      if (error) {
        this.joined ||= this.#kept;
        return this.#joinRefused(error);
      }
      if (this.#wanted) this.#added = false;
      const from = since ? undefined : toPosition(this.#addition);
      this.#addition = undefined;
      this.#applyJoin(content, since);
      if (!from || !this.#at || covers(from, this.#at)) return;
      this.#at = from; // the messages in between were ignored
      this.#requestJoin();
    });
  }

  /** Whether the client is a member or waits to be one. */
  get #active(): boolean {
    return this.#wanted || this.#added;
  }

  /** Sends a join with the own state, and what the client wants and has besides messages. */
  #sendJoin(presence: unknown, more: object, settle: Settle): void {
    const [type, state] = this.#wanted ? ["join", this.#state] : ["recover"];
    if (this.#wanted) this.#throttle.delete(""); // the state is in the join
    const latest = this.values.version;
    const body = { type: type as string, room: this.name, ...more, presence, state, latest };
    this.#requests.send(body, (error, content) => {
      if (!error && latest !== undefined) this.values.held = false;
      if (error?.code === "forbidden" && presence && type === "recover" && !this.#wanted) {
        this.#ignorePresence();
        this.#presence.clear();
        return this.#sendJoin(undefined, more, settle); // for the rest
      }
      if (!error) this.#presence.answered(content, presence);
      else if (presence) this.#presence.stop();
      settle(error, content);
    }, { mayRetry: () => this.#active });
  }

  /** Asks for presence and missing values in a room of which the client is a member already. */
  #requestState(): void {
    if (!this.#requests.connected) return;
    const presence = this.#presence.ask();
    if (presence || (this.#added && this.values.held)) this.#sendJoin(presence, {}, (error) => {
      if (error) this.#presenceRefused(error);
      else if (!this.#active) this.#client.sendLeave(); // removed meanwhile
    });
  }

  #ignorePresence(): void {
    this.#presence.wanted = false;
    this.#presence.stop();
  }

  #keepState(state: unknown): void {
    this.#state = state;
    this.#throttle.set("", () => { // no value has this key
      this.#requests.send({ type: "state", room: this.name, state }, (error) => {
        if (error && this.#isRelevant(error)) this.report(error);
      });
    });
  }

  #applyJoin(content: unknown, since: KnownPosition | undefined): void {
    if (!this.#active || this.#resumed) return;
    const { top, recovered, reason, lossy } = Object(content);
    const first = this.#first;
    this.joined = true;
    // Only a join has the state; the server's application may have added the client instead.
    if (!this.#wanted && this.#state !== undefined) this.#keepState(this.#state);
    this.#throttle.run();
    this.#first = false;
    this.#at = toPosition(content);
    this.#top = asNumber(top) ?? 0;
    this.#requestedUpTo = first ? this.#top : 0;
    this.#lossy = lossy === true;
    this.#recovering = recovered === true;
    if (this.#recovering) return this.#finishRecovery();
    this.#reportJoin(!first, 0);
    if (!first) this.#callGapHandlers(asString(reason) ?? "unknown", since, this.#at);
  }

  /** Reports that the missed messages were recovered, once they have been. */
  #finishRecovery(): void {
    if (!this.#recovering || (this.#at && this.#at.offset < this.#top)) return;
    this.#reportJoin(false, this.#recovered);
  }

  /** Reports that messages are lost for good. It replaces the report of a recovery. */
  #reportGap(reason: string, from: KnownPosition, to: KnownPosition | undefined): void {
    if (this.#recovering) this.#reportJoin(true, 0);
    this.#callGapHandlers(reason, from, to);
  }

  #reportJoin(gap: boolean, recovered: number): void {
    const first = !this.#reported;
    this.#reported ||= this.#wanted;
    this.#recovering = false;
    this.#recovered = 0;
    this.#joins.call({ first, gap, recovered });
  }

  #callGapHandlers(
    reason: string, from: KnownPosition | undefined, to: KnownPosition | undefined,
  ): void {
    const gap = { room: this.name, reason, from, to };
    this.#gaps.call(gap);
    this.#client.reportGap(gap);
  }

  #joinRefused(error: RealtimeError): void {
    if (!this.#isRelevant(error)) return;
    const addition = this.#addition;
    this.#wanted = false;
    if (!this.#added && !addition) {
      if (this.joined) this.#client.sendLeave(); // a refusal does not end the membership
      this.#ended();
    }
    this.report(error);
    if (addition) this.#addedAnyway(addition);
    else if (this.#added) {
      if (this.#at || this.#first) this.#requestJoin();
      else this.#requestState();
    }
  }

  /** Handles an addition during a join that was refused. */
  #addedAnyway(addition: object): void {
    this.#addition = undefined;
    if (!this.#ignored) return this.addedByServer(addition);
    this.joined = this.#added = true;
    this.#first = false;
    this.#at ??= toPosition(addition);
    this.#requestJoin();
  }

  /** Handles a refused recover request for a room to which the application has added the client. */
  #recoverRefused({ code }: RealtimeError): void {
    if (!this.#requests.connected) return; // the next connection asks again
    if (code === "no_member") return this.#ended();
    const at = this.#at;
    this.#at = undefined;
    if (at) this.#reportGap("unknown", at, undefined);
  }

  /** Handles a refusal that leaves the client in the room, as it was. */
  #presenceRefused(error: RealtimeError): void {
    if (!this.#isRelevant(error)) return;
    this.#presence.wanted = false;
    this.report(error);
  }

  /**
   * Reports whether an error matters. It does not if the next connection asks again, or if the
   * application has left the room.
   */
  #isRelevant({ code }: RealtimeError): boolean {
    return this.#wanted && code !== "disconnected";
  }

  #finishLeave(): void {
    if (this.#wanted) this.#client.sendLeave(); // a refused room has no membership
    this.#wanted = false;
    this.#ended();
  }

  /** Notes that the client is not a member any more. */
  #ended(): void {
    this.lost();
    this.values.forget();
    if (!this.#references.isEmpty) this.#presence.clear(); // nobody is told after the last leave
  }
}
