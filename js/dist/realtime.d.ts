/**
 * The client of realtime for browsers, workers and Node: rooms, messages to users and connections,
 * and calls in both directions, over one WebSocket that reconnects by itself.
 *
 * @packageDocumentation
 */
/**
 * The error of a failed request: an answer of the server, or an error of the client itself.
 *
 * Codes of the server are `bad_request`, `unknown_type`, `unknown_event`, `unknown_method`,
 * `forbidden`, `denied`, `limit`, `too_large`, `expired`, `no_history`, `epoch`, `unavailable` (of a
 * call; the client repeats all other requests) and `internal`, and those of the application. Codes of the client:
 *
 * - `outbox_full`: too many requests wait for a connection or for answers.
 * - `too_large`: the message is larger than the server accepts, so it was not sent.
 * - `timeout`: the answer did not arrive in time.
 * - `disconnected`: the connection ended before the answer to a call. The server may have run it.
 * - `removed`: the server has removed the client from the room.
 * - `closed`: the client was closed, or has stopped connecting.
 * - `bad_token`, `bad_url`: the token or the URL cannot be used.
 */
export declare class RealtimeError extends Error {
    readonly name = "RealtimeError";
    /** For programs; the message is for humans. */
    readonly code: string;
    /** After how many milliseconds to try again, if the server knows that. */
    readonly retryAfter: number | undefined;
    /** More about the error, as the server's application defines it: any JSON. */
    readonly data: unknown;
    constructor(code: string, message?: string, options?: RealtimeErrorOptions);
}
/** Options of a {@link RealtimeError}. */
export interface RealtimeErrorOptions {
    cause?: unknown;
    retryAfter?: number | undefined;
    data?: unknown;
}
/**
 * The URL of the server: absolute, or relative to the page. `http` and `https` become `ws` and
 * `wss`.
 *
 * A function is called for each attempt to connect, so it can return URLs that are valid only once.
 * It has 30 s. After that the attempt ends, a late result is ignored, and the next attempt calls
 * the function again. If it throws a {@link RealtimeError} the client stops connecting; after any
 * other error it tries again. It may use the client, but it must not wait for an answer from a
 * server that the client cannot reach before the function returns.
 */
export type Url = string | URL | (() => string | URL | Promise<string | URL>);
/**
 * The bearer token of the client, for a server that requires one: letters, digits and `-._~`.
 * `undefined`, `null` or an empty string means no token.
 *
 * A function is called for each attempt to connect, and when the server reports that the token has
 * expired. The first call happens after `connect` has returned. The rules for time, errors and the
 * use of the client are those of a {@link Url}. The function must throw if it does not get a token,
 * for example if the HTTP status is not 200.
 */
export type Token = string | (() => Maybe<string> | Promise<Maybe<string>>);
type Maybe<T> = T | null | undefined | void;
/** Options of `connect`. All have defaults. */
export interface Options {
    /** Default: no token. A browser sends the server's cookies in any case. */
    token?: Token;
    /** Limits for the requests that wait for a connection or for answers. */
    outbox?: Outbox;
    /** The WebSocket class to use. Default: the global one, which Node has from version 22. */
    WebSocket?: new (url: string, protocols: string[]) => any;
}
/**
 * Limits for the requests that wait for a connection or for an answer. When a limit is reached, new
 * requests are rejected with `outbox_full`, and waiting ones stay. The defaults are what a server
 * accepts at once.
 */
export interface Outbox {
    /**
     * The number of messages, calls, pings and requests for history. Rooms that wait to be joined are
     * counted separately, with the same limit. Default: 500.
     */
    messages?: number;
    /** The size of these requests in bytes. The last request may exceed it. Default: 2 MiB. */
    bytes?: number;
}
/**
 * A position among the messages that the server keeps of a room, or in the user's inbox. The
 * positions of messages, gaps and receipts can be used in a {@link HistoryQuery}.
 */
export interface Position {
    /** Grows from one message to the next, and may skip numbers. */
    readonly offset: number | undefined;
    /** If it differs, the kept messages were lost and offsets have started again. */
    readonly epoch: string | undefined;
}
/** A received message. Its position is undefined if the server does not keep it. */
export interface Message<Content = any> extends Position {
    readonly type: string;
    /** JSON, or a `Uint8Array` if it was sent as bytes. */
    readonly content: Content;
    /** The user that sent it. null for the server, and for an anonymous sender. */
    readonly sender: string | null;
    /** When the server received it, to the millisecond. */
    readonly time: Date;
    /** Distinguishes an anonymous sender from others and from the server. It is not a name. */
    readonly guest: string | undefined;
    /**
     * The connection that sent it, for an answer with {@link Client.conn}. undefined if the message
     * was sent to a room or to all, or by the server.
     */
    readonly connection: string | undefined;
    /** Identifies, with sender and guest, a message that arrives twice. */
    readonly id: string | undefined;
    /** The room to which it was sent. */
    readonly room: string | undefined;
    /**
     * The key of which it is the latest value, see {@link LatestOptions}. The content is null if the
     * value was removed.
     */
    readonly latest: string | undefined;
}
/**
 * Messages of the server itself, which arrive beside those of the application if the server has
 * announcements enabled. If the application defines types with these names, they replace the
 * notices.
 */
export interface Notices {
    /** The first connection of a user has opened. */
    userjoined: {
        user_id: string;
        message: string;
    };
    /** The last connection of a user has ended. */
    userleft: {
        user_id: string;
        message: string;
    };
}
/** The messages that a client may receive: those of the application, and notices. */
export type Received<Events extends object> = Events & Omit<Notices, keyof Events>;
/** Arguments with a content that is optional if it may be undefined. */
export type Arguments<Content, More extends unknown[] = []> = undefined extends Content ? [content?: Content, ...More] : [content: Content, ...More];
/** A target of messages: a room, a user, a connection, all, or the server itself. */
export interface Sender<Events extends object = Record<string, any>> {
    /**
     * Sends a message. An `ArrayBuffer`, or a view such as a `Uint8Array`, is sent as bytes; anything
     * else is sent as JSON.
     *
     * The promise is fulfilled when the server has accepted the message. This does not mean that a
     * client has received it. The promise is rejected if the message cannot be sent, so `await` it,
     * or `catch` the error if nothing waits for it. Browsers report an unhandled rejection, and Node
     * exits.
     *
     * If there is no connection, the message waits for one in the outbox. If a connection ends before
     * the answer, the message is sent again over the next one. Clients like this one drop a message
     * that arrives twice.
     *
     * With `ephemeral`, the message is for now only, and with `latest` it is the newest value of a
     * key. There is no promise then; see {@link EphemeralOptions} and {@link LatestOptions}.
     *
     * @throws RealtimeError `outbox_full`, `too_large`, `closed`, `bad_request` for an invalid id, or
     * the server's error.
     */
    send<Type extends keyof Events & string>(type: Type, content: Events[Type], options: EphemeralOptions): void;
    send<Type extends keyof Events & string>(type: Type, content: Events[Type] | null, options: LatestOptions): void;
    send<Type extends keyof Events & string>(type: Type, ...content: Arguments<Events[Type], [options?: SendOptions]>): Promise<Receipt>;
}
/** Options of {@link Sender.send}. */
export interface SendOptions {
    /**
     * The {@link Message.id} of the message, so that a page can show the message at once and
     * recognise it when it arrives. It must be random, such as `crypto.randomUUID()`, and must not be
     * used for another message: 1 to 64 bytes, without control characters and without space around
     * it. Default: a random one.
     */
    id?: string;
    /**
     * The time in milliseconds for which the message is useful, from when the server receives it.
     * Default: as long as the server keeps it.
     */
    ttl?: number;
    /** Whether to ask the server for the other members of the receipt. Default: false. */
    receipt?: boolean;
    /** See {@link EphemeralOptions}. */
    ephemeral?: false;
    /** See {@link LatestOptions}. */
    latest?: never;
}
/**
 * Options of an ephemeral message: an event that has no value later, such as a reaction. What is
 * so until it changes, such as the position of a cursor, is a state, see {@link Room.setState}.
 *
 * The message is sent at once or never. It is dropped if there is no connection, if more than
 * 64 KiB wait to be sent to the server, and on its way to each receiver who is away or for whom
 * more than 64 messages or 64 KiB wait. The server never keeps it, and nobody is told that a
 * message was dropped. If the server refuses messages of a type, the error goes to the handlers of
 * {@link Room.onError}, at most once in a second. Without a room, and without handlers, it is
 * reported like an uncaught error.
 *
 * `send` throws `too_large` for a message that is larger than the server accepts, and `bad_request`
 * for one with other options.
 */
export interface EphemeralOptions {
    ephemeral: true;
    id?: never;
    latest?: never;
    ttl?: never;
    receipt?: never;
}
/**
 * Options of a latest value: a message that replaces the earlier one with the same key, in a room
 * or for one connection, such as the place of a shape or a player's score. Receivers get the newest
 * value when they are ready, and not the ones in between. A client that joins the room gets the
 * newest value of each key. The content null removes the key. Only rooms and connections have
 * values: the server refuses those to a user, to all and to the server itself.
 *
 * The first value of a key is sent at once, and then the newest one at most 30 times a second.
 * While there is no connection, while the room is not joined, and while more than 16 KiB wait to be
 * sent to the server, the newest values of up to 100 keys wait, and are sent later; of more keys,
 * the oldest are dropped. Nobody is told that a value was replaced or dropped. If the server
 * refuses values of a type, the error is reported like that of an {@link EphemeralOptions ephemeral
 * message}.
 *
 * A value that was sent to a connection alone stays while its client reconnects within about 15 s,
 * as the server is set. After a longer time, the handlers are called with its removal.
 *
 * A handler is called with the newest value of each key. The next call for a value of the same
 * room, or for a value that was sent to this connection alone, is made after the handlers have
 * returned and their promises have settled. So a slow handler misses values in between, and never
 * the last one.
 *
 * `send` throws `too_large` for a message that is larger than the server accepts, and `bad_request`
 * for an invalid key and for one with other options.
 */
export interface LatestOptions {
    /** The key: 1 to 64 bytes, without control characters and without space around it. */
    latest: string;
    id?: never;
    ephemeral?: never;
    ttl?: never;
    receipt?: never;
}
/**
 * What the server did with a message. It has only the `id`, unless `receipt` asked for the other
 * members; members that do not apply are missing.
 */
export interface Receipt {
    /** The ID of the message. */
    readonly id: string;
    /** The position in the room, if the room keeps the message. */
    readonly offset?: number;
    readonly epoch?: string;
    /** Whether the inbox keeps the message, so that the user receives it later if not now. */
    readonly kept?: boolean;
    /** The number of the user's connections for which the message was queued. */
    readonly queued?: number;
    /** Whether the message had already been sent, over a connection that ended before the answer. */
    readonly duplicate?: boolean;
}
/** Describes how a room was joined. */
export interface Join {
    /** Whether this is the first join, not one after a reconnect. */
    readonly first: boolean;
    /**
     * Whether messages may have been missed since the last time. {@link Room.onGap} reports which.
     */
    readonly gap: boolean;
    /**
     * The number of missed messages that were recovered. Handlers have already been called with them.
     */
    readonly recovered: number;
}
/** A place where messages are missing or may be missing. */
export interface Gap {
    /** The room of the messages. undefined: messages to the user. */
    readonly room: string | undefined;
    /**
     * The reason: `expired` if the messages were too old, `overflow` if they were too many, `epoch`
     * if the kept messages were lost, `ahead` if the server knows less than the client, `slow` if the
     * server dropped them because the client was too slow, and `unknown` if nothing is kept.
     */
    readonly reason: string;
    /** The position after which messages are missing, if known. */
    readonly from: Position | undefined;
    /** The position of the last missing message, if known. */
    readonly to: Position | undefined;
}
/** Selects messages from the history of a room. */
export interface HistoryQuery {
    /** The largest number of messages, 1 to 1,000. Default: 50. */
    limit?: number;
    /**
     * The newest messages before this position, for example that of the oldest message that is shown.
     * Default: the newest messages of all.
     */
    before?: Position | undefined;
    /** An alternative to `before`: the first messages after this position. */
    after?: Position | undefined;
}
/** A page of the history of a room. */
export interface History<Events extends object = Record<string, any>> {
    /** Oldest first. */
    readonly messages: readonly Message<Events[keyof Events]>[];
    /** Whether there are more messages in the direction of the query. */
    readonly more: boolean;
    /** The position of the newest message of the room. */
    readonly top: Position;
}
/** What a room shows of a member, which is one connection. */
export interface Member<State = any> {
    /** Identifies the member in the room. It stays the same while the member reconnects. */
    readonly key: string;
    /** The user; null for an anonymous connection. */
    readonly user: string | null;
    /** What the server's application says about the member: any JSON, or undefined. */
    readonly info: unknown;
    /** What the member says about itself with {@link Room.setState}. undefined: nothing. */
    readonly state: State | undefined;
    /** Whether the connection was lost and may come back. */
    readonly away: boolean;
    /** Whether this client is the member. */
    readonly me: boolean;
}
/** A user in a room, with all of the user's connections. An anonymous connection is one user. */
export interface PresentUser<State = any> {
    readonly user: string | null;
    /** What the server's application says about the first member. */
    readonly info: unknown;
    /** The members of the user, at least one. */
    readonly members: readonly Member<State>[];
    /** Whether all members are away. */
    readonly away: boolean;
    /** Whether this client is one of the members. */
    readonly me: boolean;
}
/** What a room shows of its members. Each change makes a new object. */
export interface Presence<State = any> {
    /**
     * What the room shows: nothing, numbers only, or its members too. A room with very many members
     * shows only their number.
     */
    readonly show: "nothing" | "count" | "members";
    /** The number of users with an id. */
    readonly userCount: number;
    /** The number of connections. */
    readonly connectionCount: number;
    /** Sorted by user and key; anonymous ones first. Empty unless the room shows its members. */
    readonly members: readonly Member<State>[];
    /** Returns the members grouped by user, in the same order. */
    users(): PresentUser<State>[];
}
/**
 * The difference between the members that were shown and those that are shown now. If another user
 * has the key of a member, that member has left, and another one has joined.
 */
export interface PresenceChange<State = any> {
    readonly joined: readonly Member<State>[];
    /** As they were shown last. */
    readonly left: readonly Member<State>[];
    /** Those that were shown before and have another state, for example. */
    readonly updated: readonly Member<State>[];
}
/** A change of a state: some members of an object, or another state. null: no state. */
export type StatePatch<State> = (State extends object ? {
    [Name in keyof State]?: State[Name] | undefined;
} : State) | null;
/** A room that was joined, and is joined again over each new connection. */
export interface Room<Events extends object = Record<string, any>, State = any> extends Sender<Events> {
    readonly name: string;
    /** Whether the client is a member of the room over the current connection. */
    readonly joined: boolean;
    /**
     * What the room shows of its members, if it was joined with `presence`; otherwise nothing. It
     * stays as it is while the client reconnects.
     */
    readonly presence: Presence<State>;
    /**
     * Calls the handler with each message of this type to this room. Returns a function that removes
     * the handler.
     */
    on<Type extends keyof Received<Events> & string>(type: Type, handler: (content: Received<Events>[Type], message: Message<Received<Events>[Type]>) => void): () => void;
    /**
     * Calls the handler when {@link Room.presence} has changed. Returns a function that removes the
     * handler.
     */
    onPresence(handler: (now: Presence<State>, change: PresenceChange<State>) => void): () => void;
    /**
     * Sets what this client says about itself to the other members: JSON of at most 1 KiB. If the
     * state and the patch are objects, the members of the patch replace those of the state, and those
     * that are undefined are removed. Otherwise the patch replaces the state.
     *
     * It is sent at once, and then the newest state at most 30 times a second. It is sent again with
     * each join. {@link Room.presence} changes when the server has accepted it; if the server refuses
     * it, the handlers of `onError` are called.
     *
     * @throws RealtimeError `too_large`
     */
    setState(patch: StatePatch<State>): void;
    /**
     * Calls the handler each time the room has been joined. If the room keeps history, the missed
     * messages are delivered first. Returns a function that removes the handler.
     */
    onJoin(handler: (join: Join) => void): () => void;
    /**
     * Calls the handler when messages of the room are missing. Returns a function that removes the
     * handler.
     */
    onGap(handler: (gap: Gap) => void): () => void;
    /**
     * Calls the handler when the server refuses the join, presence, a state, a value or an ephemeral
     * message, when it removes the client from the room, and with `outbox_full` when too many rooms
     * wait to be joined. A refused room stays unjoined until `join` is called again. If the server's
     * application has added the client to it, `joined` and `presence` stay current all the same. An
     * error without a handler is reported like an uncaught error. Returns a function that removes the
     * handler.
     */
    onError(handler: (error: RealtimeError) => void): () => void;
    /**
     * Returns messages that the room keeps. Handlers are not called with them. To get the page before
     * the shown messages, ask for those `before` the oldest one. If there is no connection, the
     * request waits for one.
     *
     * @throws RealtimeError `no_history` if the room keeps none, `epoch` if the position belongs to
     * messages that have been lost, `outbox_full`, `closed`, or another error of the server.
     */
    history(query?: HistoryQuery): Promise<History<Events>>;
    /**
     * Leaves the room once `leave` has been called for each `join`. The client leaves one macrotask
     * later, see `close`.
     */
    leave(): void;
}
/** Options of {@link Client.join}. */
export interface JoinOptions<State = any> {
    /** Whether to keep {@link Room.presence} current. Default: false. */
    presence?: boolean;
    /** The first state of this client, which replaces an earlier one. See {@link Room.setState}. */
    state?: State;
    /**
     * The number of the newest messages to begin with, up to 1,000, if the room keeps history.
     * Handlers are called with them first. It applies to the first join only; later joins continue at
     * the current position. Default: none.
     */
    history?: number;
}
/** Options of {@link Client.call}. */
export interface CallOptions {
    /**
     * The time for the answer in milliseconds, including the wait for a connection. 0 or Infinity: no
     * limit. Default: 10,000.
     */
    timeout?: number;
}
/**
 * - `connecting`: an attempt is in progress.
 * - `open`: the server has sent its welcome.
 * - `waiting`: the last connection or attempt has ended; another attempt follows.
 * - `closed`: the client has ended or stopped; no attempt follows.
 */
export type State = "connecting" | "open" | "waiting" | "closed";
/** The state of the connection, and the reason for which the last one ended. */
export interface Status {
    readonly state: State;
    /** Whether the client continues by itself: false if closed. */
    readonly willRetry: boolean;
    /** Milliseconds until the next attempt, if waiting. */
    readonly retryIn?: number;
    /** The close code, if waiting or closed. 1006: no close frame, or no connection at all. */
    readonly code?: number;
    /** The reason for humans, if waiting or closed. */
    readonly reason?: string;
    /**
     * The status of the server's answer to a plain request for the same URL, sent after an upgrade
     * failed.
     */
    readonly httpStatus?: number;
    /** The error that ended the attempt, if something was thrown. */
    readonly error?: unknown;
}
/**
 * A connection to the server that reconnects by itself.
 *
 * Handlers are called one after another, in the order of the messages. If a handler throws, the
 * others are called nevertheless, and the error is reported like an uncaught error. Each method
 * that takes a handler returns a function that removes it. Handlers stay over reconnects.
 *
 * If the application keeps an inbox for each user, the client acknowledges a message to the user
 * when all of its handlers have returned and their promises, if they return any, have settled,
 * whether fulfilled or rejected. If such a message arrived from a room instead, it is acknowledged
 * when all messages that had come from rooms by then are done. A message that was not acknowledged
 * is delivered again, to this client or to the user's next one. So set the handlers directly after
 * `connect`: a message without handlers is done at once.
 *
 * `Events` maps each message type to its content, `Calls` each method to a request and a response.
 * Bytes are a `Uint8Array` in both:
 *
 * ```ts
 * type Events = { chat: { text: string } };
 * type Calls = {
 *   add: [request: { a: number; b: number }, response: number];
 *   thumbnail: [request: Uint8Array, response: Uint8Array];
 * };
 * const client = connect<Events, Calls>("/ws");
 * ```
 */
export interface Client<Events extends object = Record<string, any>, Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>> {
    /** The state of the connection. Each change makes a new object. */
    readonly status: Status;
    /**
     * The user that the server has authenticated; null if anonymous, or before the first connection.
     */
    readonly userId: string | null;
    /** The ID of the current connection, or null. */
    readonly connectionId: string | null;
    /** All connections. */
    readonly all: Sender<Events>;
    /**
     * The server's application itself, which no client receives. Unlike a call, such a message is
     * sent again if a connection ends before the answer.
     */
    readonly server: Sender<Events>;
    /** All connections of a user. */
    user(id: string): Sender<Events>;
    /** One connection, by its ID. */
    conn(id: string): Sender<Events>;
    /**
     * Joins a room, now or as soon as there is a connection, and again over each new one. Another
     * `join` of the same name returns the same room, which is left when each caller has left it. A
     * room to which the server's application adds the client needs no join: handlers of the client
     * receive its messages. If the application adds the client to it again, the missed messages are
     * delivered.
     */
    join<RoomEvents extends object = Events, State = any>(name: string, options?: JoinOptions<State>): Room<RoomEvents, State>;
    /** Calls the handler with each message of this type, including messages to rooms. */
    on<Type extends keyof Received<Events> & string>(type: Type, handler: (content: Received<Events>[Type], message: Message<Received<Events>[Type]>) => void): () => void;
    /**
     * Calls the handler when messages are missing, also those of rooms. Without an inbox, messages to
     * the user may be missing after each reconnect. Returns a function that removes the handler.
     */
    onGap(handler: (gap: Gap) => void): () => void;
    /** Calls the handler with each new status. */
    onStatus(handler: (status: Status) => void): () => void;
    /**
     * Asks the server to run a method, with JSON, bytes or no content. An `ArrayBuffer`, or a view
     * such as a `Uint8Array`, is sent as bytes. The answer is JSON, a `Uint8Array`, or `undefined` if
     * it has no content. If there is no connection, the call waits for one. It is never sent twice.
     *
     * @throws RealtimeError `timeout`, `disconnected`, `outbox_full`, `too_large`, `closed`, or the
     * server's error.
     */
    call<Method extends keyof Calls & string>(method: Method, ...request: Arguments<Calls[Method][0], [options?: CallOptions]>): Promise<Calls[Method][1]>;
    /**
     * Answers calls from the server of this method. Content and result are JSON, bytes as in `call`,
     * or undefined. A method has one handler, the one that was set last. If the handler throws a
     * {@link RealtimeError}, that is the answer; any other error is reported, and answered with
     * `internal`. One connection answers 100 calls at the same time, and further ones with `busy`.
     */
    handle(method: string, handler: (content: any) => unknown): () => void;
    /**
     * Returns the time until the server answers, in milliseconds. When the promise is fulfilled, the
     * client has received everything that the server had for it before the answer. If there is no
     * connection, the ping waits for one.
     *
     * @throws RealtimeError `outbox_full` or `closed`.
     */
    ping(): Promise<number>;
    /**
     * Tries to connect now, in any state. It ends a wait, also one that the server has asked for. A
     * client that has stopped for any reason tries again, unless `close` has ended it. An attempt
     * that is in progress starts again, with a new token and URL, but not twice within a second. If
     * there is an open connection, the client sends a ping and gives the connection up if nothing
     * arrives within 5 s. The page does the same when it becomes visible and when the network is
     * available again, unless the client has stopped.
     */
    reconnect(): void;
    /**
     * Ends the connection once `close` has been called for each `connect` that returned this client.
     * The connection ends one macrotask later, so a component that is mounted again at once continues
     * with it. Pending requests are then rejected with `closed`.
     */
    close(): void;
}
/**
 * Connects to a server, and reconnects as long as that makes sense. It returns at once. Messages,
 * calls and joins that are made before there is a connection wait for one.
 *
 * A second call with the same URL, and the same token if that is a string, returns the same client,
 * with the options of the first call. That client ends when each caller has closed it. If it has
 * stopped connecting, the call makes it try again. Use a function as URL to get a separate client.
 *
 * @throws TypeError if the URL is invalid, or is relative and there is no page.
 * @throws Error if there is no WebSocket.
 */
export declare function connect<Events extends object = Record<string, any>, Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>>(url: Url, options?: Options): Client<Events, Calls>;
export {};
