/**
 * The client of realtime for browsers, workers and Node: rooms, messages to users and connections,
 * and calls in both directions, over one WebSocket that comes back by itself.
 *
 * @packageDocumentation
 */
/**
 * Why a request failed: an answer of the server, or a reason of the client's own.
 *
 * The server's codes are `bad_request`, `unknown_type`, `unknown_event`, `unknown_method`,
 * `forbidden`, `denied`, `limit`, `too_large`, `expired`, `no_history`, `epoch` and `internal`, and
 * those of the application. The client's own:
 *
 * - `outbox_full`: too much waits already, for a connection or for answers.
 * - `too_large`: the server would not take a message of this size, so it was not sent.
 * - `timeout`: no answer came in time.
 * - `disconnected`: the connection ended before the answer to a call. It may have been done.
 * - `removed`: the server has taken us out of the room.
 * - `closed`: the client was closed, or stays away from the server.
 * - `bad_token`, `bad_url`: nothing can be connected to with these.
 */
export declare class RealtimeError extends Error {
    readonly name = "RealtimeError";
    /** For programs; the message is for humans. */
    readonly code: string;
    constructor(code: string, message?: string, options?: {
        cause?: unknown;
    });
}
/**
 * Where the server is: absolute, or relative to the page. `http` and `https` become `ws` and `wss`.
 * A function is called for every attempt to connect, for URLs that are good for one only. It has
 * 30 s: then the attempt ends, a late answer is ignored, and the next attempt calls it again. If it
 * throws a {@link RealtimeError} the client stays away, and after any other error it tries again.
 * It may use the client, but it must not wait for an answer of a server that cannot be reached
 * without it.
 */
export type Url = string | URL | (() => string | URL | Promise<string | URL>);
/**
 * Who we are, for a server that asks for a bearer token: letters, digits and `-._~`. A function is
 * called for every attempt to connect and when the server says that the token has expired. The
 * first call comes after `connect` has returned. Nothing, or an empty string, is no token. For
 * time, errors and the use of the client the same holds as for a {@link Url}. It must throw if an
 * answer is no token, for example one with an HTTP status that is not 200.
 */
export type Token = string | (() => Maybe<string> | Promise<Maybe<string>>);
type Maybe<T> = T | null | undefined | void;
/** Options of `connect`. All have defaults. */
export interface Options {
    /** Default: no token. A browser sends the cookies of the server in any case. */
    token?: Token;
    /** How much may wait for a connection, or for answers. */
    outbox?: Outbox;
    /** The WebSocket to use. Default: the global one, which Node has from version 22 on. */
    WebSocket?: new (url: string, protocols: string[]) => any;
}
/**
 * How much may wait for the server: for a connection, or for answers on one. While so much waits,
 * what is new is rejected with `outbox_full`, and what waits is not changed. The defaults are what
 * a server takes at once.
 */
export interface Outbox {
    /**
     * Messages, calls, pings and requests for history; and, counted for themselves, rooms that are to
     * be joined. Default: 500.
     */
    messages?: number;
    /** Bytes of these. The last one may go beyond it. Default: 2 MiB. */
    bytes?: number;
}
/**
 * A place in what the server keeps of a room, or for us. Those of messages, gaps and receipts are
 * good for {@link HistoryQuery}.
 */
export interface Position {
    /** Grows from one message to the next, and may leave numbers out. */
    readonly offset: number | undefined;
    /** Another one: what was kept has been lost, and offsets have begun anew. */
    readonly epoch: string | undefined;
}
/** A message as it was received. Its position is undefined if it is not kept. */
export interface Message<Content = any> extends Position {
    readonly type: string;
    /** JSON, or a `Uint8Array` if it was sent as bytes. */
    readonly content: Content;
    /** The user who sent it. null is the server, or somebody anonymous. */
    readonly sender: string | null;
    /** When the server got it, to the second. */
    readonly time: Date;
    /** Tells somebody anonymous who sent it from others, and from the server. It is no name. */
    readonly guest: string | undefined;
    /** By which one that comes twice is known, with its sender and guest. */
    readonly id: string | undefined;
    /** The room that it was sent to. */
    readonly room: string | undefined;
}
/**
 * The server's own messages, which come beside those of the application where it has announcements
 * switched on. Types of the application with these names take their place.
 */
export interface Notices {
    /** A user's first connection has opened. */
    userjoined: {
        user_id: string;
        message: string;
    };
    /** A user's last connection has ended. */
    userleft: {
        user_id: string;
        message: string;
    };
    /** A user, or an anonymous connection, has joined a room or left it. */
    systemnotification: {
        type: "room_join" | "room_leave";
        user_id: string | null;
        room_id: string;
        message: string;
    };
}
/** What may be received: the application's messages and the server's. */
export type Received<Events extends object> = Events & Omit<Notices, keyof Events>;
/** Arguments for a content that may be left out if it may be undefined. */
export type Arguments<Content, More extends unknown[] = []> = undefined extends Content ? [content?: Content, ...More] : [content: Content, ...More];
/** Somebody to send to: a room, a user, a connection, or all. */
export interface Sender<Events extends object = Record<string, any>> {
    /**
     * Sends a message. An `ArrayBuffer`, or a view of one such as a `Uint8Array`, goes as bytes, and
     * anything else as JSON.
     *
     * The promise is kept when the server has accepted the message; that somebody got it is not said.
     * It is rejected in the end if the message cannot be sent, so handle that: `await` it, or `catch`
     * it where nobody waits. A rejection that is not handled is reported by browsers and ends Node.
     *
     * Without a connection the message waits for one in the outbox. If a connection ends before the
     * answer it is sent again with the next one; clients like this one drop what comes twice.
     *
     * @throws RealtimeError `outbox_full`, `too_large`, `closed`, or what the server answers.
     */
    send<Type extends keyof Events & string>(type: Type, content: Events[Type], options: SendOptions & {
        receipt: true;
    }): Promise<Receipt>;
    send<Type extends keyof Events & string>(type: Type, ...content: Arguments<Events[Type], [options?: SendOptions]>): Promise<void>;
}
/** Options of {@link Sender.send}. */
export interface SendOptions {
    /** A name of at most 64 bytes: of kept messages with the same one, a client that has missed several may get only the newest. */
    key?: string;
    /**
     * Milliseconds for which the message is of use, from when the server gets it. Negative: it is not
     * kept. Default: as long as it is kept.
     */
    ttl?: number;
    /** Whether to tell what has become of the message. Default: false. */
    receipt?: boolean;
}
/** What has become of a message. What does not apply is not there. */
export interface Receipt {
    /** Where a room keeps it. */
    readonly offset?: number;
    readonly epoch?: string;
    /** Whether the user will get it even if none of his connections does now. */
    readonly kept?: boolean;
    /** How many connections of the user it is on its way to. */
    readonly queued?: number;
    /** Whether it had been sent before, with the connection that ended before the answer. */
    readonly duplicate?: boolean;
}
/** What happened when a room was joined. */
export interface Join {
    /** Whether it is the first time, not a return. */
    readonly first: boolean;
    /** Whether messages may have been missed since the last time. {@link Room.onGap} says which. */
    readonly gap: boolean;
    /** How many messages were missed, and have come since: the handlers have had them already. */
    readonly recovered: number;
}
/** Where messages are missing, or may be. */
export interface Gap {
    /** The room whose messages they are. undefined: those to us, as a user. */
    readonly room: string | undefined;
    /**
     * Why: `expired` if they were too old, `overflow` if they were too many, `epoch` if what was kept
     * has been lost, `ahead` if the server knows less than we do, `slow` if they were left out as we
     * are too slow, and `unknown` if nothing is kept.
     */
    readonly reason: string;
    /** They are behind this one, if that is known. */
    readonly from: Position | undefined;
    /** And this one is the last of them. */
    readonly to: Position | undefined;
}
/** What to ask a room's history for. */
export interface HistoryQuery {
    /** How many messages, 1 to 1,000. Default: 50. */
    limit?: number;
    /** The newest before this one, such as the oldest message that is shown. Default: of all. */
    before?: Position | undefined;
    /** Instead of that, the first behind this one. */
    after?: Position | undefined;
}
/** A part of a room's history. */
export interface History<Events extends object = Record<string, any>> {
    /** The oldest first. */
    readonly messages: readonly Message<Events[keyof Events]>[];
    /** Whether there is more in the direction that was asked for. */
    readonly more: boolean;
    /** That of the newest message of the room. */
    readonly top: Position;
}
/** A room that was joined, and is joined again with every new connection. */
export interface Room<Events extends object = Record<string, any>> extends Sender<Events> {
    readonly name: string;
    /** Whether the server has let us in, on the connection that there is now. */
    readonly joined: boolean;
    /**
     * The users in the room, sorted, each once. It is kept current if the room was joined with
     * `members`, and else empty; so it is for more than 1,000. Each change makes a new array.
     * Between two connections it is what was known last.
     */
    readonly members: readonly string[];
    /** How many users are in the room; right also for more than 1,000. */
    readonly memberCount: number;
    /** Calls the handler with each message of this type to this room. Returns what ends that. */
    on<Type extends keyof Received<Events> & string>(type: Type, handler: (content: Received<Events>[Type], message: Message<Received<Events>[Type]>) => void): () => void;
    /** Calls the handler when members have come or gone. Returns what ends that. */
    onMembers(handler: (members: readonly string[]) => void): () => void;
    /**
     * Calls the handler when the room has been joined, also again. A room that keeps history gives
     * what was missed first: then the handler is called behind that. Returns what ends that.
     */
    onJoin(handler: (join: Join) => void): () => void;
    /** Calls the handler where messages of the room are missing. Returns what ends that. */
    onGap(handler: (gap: Gap) => void): () => void;
    /**
     * Calls the handler when the server refuses us the room or its members, or takes us out of it,
     * and with `outbox_full` if too many rooms wait to be joined. A room that was refused is left
     * alone until it is joined again. An error without a handler is reported like one that nobody
     * caught. Returns what ends that.
     */
    onError(handler: (error: RealtimeError) => void): () => void;
    /**
     * Asks for messages that the room keeps, and gives them to no handler. For the page before what
     * is shown, ask for those `before` the oldest message. Without a connection it waits for one.
     *
     * @throws RealtimeError `no_history` if the room keeps none, `epoch` if the position is one of
     * messages that have been lost, `outbox_full`, `closed`, or what else the server answers.
     */
    history(query?: HistoryQuery): Promise<History<Events>>;
    /** Leaves, as soon as all have left who joined the same room. A macrotask later, see `close`. */
    leave(): void;
}
/** Options of {@link Client.join}. */
export interface JoinOptions {
    /** Whether to know who is in the room. Default: false. */
    members?: boolean;
    /**
     * How many of the newest messages to begin with, up to 1,000, if the room keeps history: the
     * handlers get them first. It counts for the first join only; later ones go on where we are.
     * Default: none.
     */
    history?: number;
}
/** Options of {@link Client.call}. */
export interface CallOptions {
    /**
     * Milliseconds for the answer, including the wait for a connection. 0 or Infinity: no limit.
     * Default: 10,000.
     */
    timeout?: number;
}
/**
 * - `connecting`: an attempt is under way.
 * - `open`: the server has said welcome.
 * - `waiting`: the last connection or attempt has ended; another attempt follows.
 * - `closed`: it has ended, and no attempt follows.
 */
export type State = "connecting" | "open" | "waiting" | "closed";
/** How the connection is, and what ended the last one. */
export interface Status {
    readonly state: State;
    /** Whether the client goes on by itself: false if closed. */
    readonly willRetry: boolean;
    /** Milliseconds until the next attempt, if waiting. */
    readonly retryIn?: number;
    /** The close code, if waiting or closed. 1006: no close frame, or no connection at all. */
    readonly code?: number;
    /** Why, for humans, if waiting or closed. */
    readonly reason?: string;
    /** What the server answered to a plain request for the same URL after an upgrade failed. */
    readonly httpStatus?: number;
    /** What was thrown, if that was the end. */
    readonly error?: unknown;
}
/**
 * A connection to the server that comes back by itself.
 *
 * Handlers are called one after another, in the order of the messages. One that throws does not
 * stop the others; what it threw is reported like an error that nobody caught. All that take a
 * handler return a function that takes it off again; it stays over connections.
 *
 * If the application has an inbox for each user, messages to the user are acknowledged by
 * themselves when all of their handlers are done, and what these return, if it is a promise, has
 * settled, one way or the other. So are those that came from a room instead, with what else came from
 * rooms by then. What was not acknowledged comes again, to this client or the next
 * one. So set the handlers right after `connect`: a message without any is done at once.
 *
 * `Events` has the content for each message type, `Calls` a request and a response for each method:
 *
 * ```ts
 * type Events = { chat: { text: string } };
 * type Calls = { add: [request: { a: number; b: number }, response: number] };
 * const client = connect<Events, Calls>("/ws");
 * ```
 */
export interface Client<Events extends object = Record<string, any>, Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>> {
    /** How the connection is. A new object with each change. */
    readonly status: Status;
    /** Who the server says we are; null if anonymous, or before the first connection. */
    readonly userId: string | null;
    /** The id of the connection that there is now, or null. */
    readonly connectionId: string | null;
    /** Everybody who is connected. */
    readonly all: Sender<Events>;
    /** All connections of a user. */
    user(id: string): Sender<Events>;
    /** One connection, by its id. */
    conn(id: string): Sender<Events>;
    /**
     * Joins a room, now or as soon as there is a connection, and again with each new one. Joining
     * again gives the same room, which is left when each has left it. A room that the server's
     * application puts us into needs no join: handlers of the client get its messages, and what we
     * have missed there comes when we are put in again.
     */
    join(name: string, options?: JoinOptions): Room<Events>;
    /** Calls the handler with each message of this type, of rooms too. */
    on<Type extends keyof Received<Events> & string>(type: Type, handler: (content: Received<Events>[Type], message: Message<Received<Events>[Type]>) => void): () => void;
    /**
     * Calls the handler where messages are missing, of rooms too. Those to us as a user may be
     * missing after each reconnect, unless the application has an inbox. Returns what ends that.
     */
    onGap(handler: (gap: Gap) => void): () => void;
    /** Calls the handler with each new status. */
    onStatus(handler: (status: Status) => void): () => void;
    /**
     * Asks the server for something by name, with JSON or nothing. Without a connection it waits for
     * one. It is never sent twice.
     *
     * @throws RealtimeError `timeout`, `disconnected`, `outbox_full`, `too_large`, `closed`, or what
     * the server answers.
     */
    call<Method extends keyof Calls & string>(method: Method, ...request: Arguments<Calls[Method][0], [options?: CallOptions]>): Promise<Calls[Method][1]>;
    /**
     * Answers what the server asks for by this name, with JSON or nothing. There is one handler for a
     * method, the last. A {@link RealtimeError} that it throws is the answer; any other error is
     * reported, and answered with `internal`. Over one connection 100 calls are answered at a time,
     * more with `busy`.
     */
    handle(method: string, handler: (content: any) => unknown): () => void;
    /**
     * Milliseconds until the server answers. When the promise is kept, everything that the server had
     * for this client before has come. Without a connection it waits for one.
     *
     * @throws RealtimeError `outbox_full` or `closed`.
     */
    ping(): Promise<number>;
    /**
     * Tries to connect now, whatever the state. A wait ends, also one that the server has asked for.
     * A client that stays away tries again, for whatever reason it does, unless `close` has ended it.
     * An attempt that is under way is begun anew, with its token and URL, but not twice within a
     * second. Of an open connection a sign of life is asked for; it is given up if none comes within
     * 5 s. The page does the same when it is seen again and when the network is back, unless the
     * client stays away.
     */
    reconnect(): void;
    /**
     * Ends the connection when each has closed it who got this same client from `connect`. It does so
     * one macrotask later, so that a component that is mounted again at once goes on with it. What
     * waits then is rejected with `closed`.
     */
    close(): void;
}
/**
 * Connects to a server, and comes back whenever that makes sense. It returns at once; what is sent,
 * called and joined before there is a connection waits for one.
 *
 * Connecting twice to the same URL, with the same token if that is a string, gives the same client,
 * with the options of the first; it is closed when each has closed it. A client that stays away is
 * made to try again by that. For a client of one's own the URL may be a function.
 *
 * @throws TypeError if the URL is none, or is relative where there is no page.
 * @throws Error if there is no WebSocket.
 */
export declare function connect<Events extends object = Record<string, any>, Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>>(url: Url, options?: Options): Client<Events, Calls>;
export {};
