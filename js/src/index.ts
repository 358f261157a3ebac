/**
 * The client of realtime for browsers, workers and Node: rooms, messages to users and connections,
 * and calls in both directions, over one WebSocket that reconnects by itself.
 *
 * @packageDocumentation
 */

export type {
  Arguments, CallOptions, Client, EphemeralOptions, Gap, History, HistoryQuery, Join, JoinOptions,
  LatestOptions, Member, Message, Notices, Options, Outbox, Position, Presence, PresenceChange,
  PresentUser, Receipt, Received, Room, SendOptions, Sender, State, StatePatch, Status, Token, Url,
} from "./api.js";
export { connect } from "./connect.js";
export { RealtimeError } from "./errors.js";
export type { RealtimeErrorOptions } from "./errors.js";
