// The package ws of npm.
import WebSocket from "ws"

const ws = new WebSocket(process.argv[2])
ws.on("message", (data) => {
  const text = String(data)
  console.log(text)
  if (text === "pong") return ws.send(JSON.stringify({ content: "hi", target: "all" }))
  const { message_type } = JSON.parse(text)
  if (message_type === "welcome") ws.send("ping")
  if (message_type === "chat") ws.close(1000)
})
ws.on("close", (code) => console.log(code))
