// Socket.IO on Node, with its default options except for compression.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { deflate, hello } from "./hello.js";
import pkg from "socket.io/package.json" with { type: "json" };

const http = createServer();
const io = new Server(http, { perMessageDeflate: deflate });

io.on("connection", (socket) => {
  const { room, user, direct } = socket.handshake.query;
  socket.join(room);
  if (direct === "1") socket.join(`user:${user}`);
  socket.on("m", (body) => io.to(room).emit("m", body));
  socket.on("d", (to, body) => io.to(`user:${to}`).emit("m", body));
});

http.listen(0, "127.0.0.1", () =>
  hello(http.address().port, "socket.io", {
    node: process.versions.node,
    "socket.io": pkg.version,
  }),
);
