// uWebSockets through the topics of Bun, which is built on it.
import { addressee, deflate, hello, who } from "./hello.js";

const users = new Map();

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (server.upgrade(request, { data: who(request.url) })) return undefined;
    return new Response("not a WebSocket", { status: 426 });
  },
  websocket: {
    perMessageDeflate: deflate,
    open(socket) {
      socket.subscribe(socket.data.room);
      if (socket.data.name) users.set(socket.data.name, socket);
    },
    message(socket, text) {
      const to = addressee(text);
      if (to === undefined) server.publish(socket.data.room, text, deflate);
      else users.get(to)?.send(text, deflate);
    },
    close(socket) {
      users.delete(socket.data.name);
    },
  },
});

hello(server.port, "plain", { bun: Bun.version });
