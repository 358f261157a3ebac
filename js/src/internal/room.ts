import type { Join, JoinOptions, Message, Room, Sender } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Handlers, MessageHandlers, report } from "./handlers.js";
import { References } from "./references.js";
import type { Requests } from "./requests.js";
import { Roster } from "./roster.js";

/** ClientRoom is a room of a client, from the first join to the last leave. */
export class ClientRoom implements Room {
  readonly name: string;
  readonly send: Sender["send"];
  joined = false;

  readonly #requests: Requests;
  readonly #references: References;
  readonly #roster = new Roster();
  readonly #messages = new MessageHandlers();
  readonly #joins = new Handlers<[Join]>();
  readonly #errors = new Handlers<[RealtimeError]>();
  readonly #changes = new Handlers<[readonly string[]]>();
  #wanted = false; // until it is refused
  #withMembers = false;
  #first = true;
  #asking = 0; // joins that are not answered

  constructor(name: string, requests: Requests, send: Sender["send"], forget: () => void) {
    this.name = name;
    this.send = send;
    this.#requests = requests;
    this.#references = new References(() => {
      forget();
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

  onError(handler: (error: RealtimeError) => void): () => void {
    return this.#errors.add(handler);
  }

  leave(): void {
    this.#references.remove();
  }

  /** One more wants it. */
  want({ members = false }: JoinOptions): void {
    this.#references.add();
    const more = !this.#wanted || (members && !this.#withMembers);
    this.#wanted = true;
    this.#withMembers ||= members;
    if (more) this.enter();
  }

  /** Asks to be let in, if there is a connection. If it is in already that changes nothing. */
  enter(): void {
    if (!this.#wanted || !this.#requests.connected) return;
    this.#asking++;
    this.#requests.make({ type: "join", room: this.name }, (error, content) => {
      this.#asking--;
      if (error) this.#refused(error);
      else this.#entered(content);
    });
    if (!this.#withMembers) return;
    this.#requests.make({ type: "presence", room: this.name }, (error, content) => {
      if (error) this.#unlisted(error);
      else this.#listed(content);
    });
  }

  /** The connection is gone. */
  lost(): void {
    this.joined = false;
    this.#roster.pause();
  }

  /** The server has taken us out. */
  removed(): void {
    this.joined = false;
    if (this.#asking > 0) return; // the answer says how it goes on
    this.#refused(new RealtimeError("removed", "the server has taken us out of the room"));
  }

  /** Takes a message to the room. */
  receive(message: Message): void {
    if (this.#roster.follow(message)) this.#changes.call(this.members);
    this.#messages.call(message);
  }

  #entered(content: unknown): void {
    if (this.joined || !this.#wanted) return;
    const first = this.#first;
    this.joined = true;
    this.#first = false;
    this.#joins.call({ first, gap: !first && Object(content).recovered !== true });
  }

  #listed(content: unknown): void {
    this.#roster.list(content);
    this.#changes.call(this.members);
  }

  #refused(error: RealtimeError): void {
    if (!this.#concerns(error)) return;
    this.#wanted = false;
    this.lost();
    this.#report(error);
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
    this.#wanted = false;
    this.lost();
    if (this.#requests.connected) {
      this.#requests.make({ type: "leave", room: this.name }, () => {}); // left it is in any case
    }
  }
}
