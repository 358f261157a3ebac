// Node's own WebSocket, which is that of browsers.
const ws = new WebSocket(process.argv[2])
ws.onmessage = ({ data }) => {
  console.log(data)
  if (data === "pong") return ws.send(JSON.stringify({ content: "hi", target: "all" }))
  const { message_type } = JSON.parse(data)
  if (message_type === "welcome") ws.send("ping")
  if (message_type === "chat") ws.close(1000)
}
ws.onclose = ({ code }) => console.log(code)
