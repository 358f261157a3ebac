// The package ws on Node, with its documented broadcast, to the members of a room.
import { WebSocket, WebSocketServer } from "ws";
import { addressee, deflate, hello, versionOf, who } from "./hello.js";

const rooms = new Map();
const users = new Map();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  path: "/ws",
  perMessageDeflate: deflate,
});

server.on("connection", (socket, request) => {
  const { room, name } = who(request.url);
  if (!rooms.has(room)) rooms.set(room, new Set());
  const members = rooms.get(room);
  members.add(socket);
  if (name) users.set(name, socket);
  socket.on("error", () => {});
  socket.on("close", () => {
    members.delete(socket);
    users.delete(name);
  });
  socket.on("message", (data, binary) => {
    const to = addressee(data.toString());
    if (to !== undefined) {
      users.get(to)?.send(data, { binary });
      return;
    }
    for (const member of members) {
      if (member.readyState === WebSocket.OPEN) member.send(data, { binary });
    }
  });
});

server.on("listening", () =>
  hello(server.address().port, "plain", { node: process.versions.node, ws: versionOf("ws") }),
);
