// Clients that read a room with history; the application adds some of them to it. The script prints
// the events of each client as lines of JSON.
import { connect } from "../../js/dist/realtime.js"

const [url, readers, given] = process.argv.slice(2)

for (let reader = 0; reader < readers; reader++) {
  const say = (line) => console.log(JSON.stringify({ reader, ...line }))
  const client = connect(`${url}?user_id=reader${reader}`)
  client.onStatus(({ state }) => {
    if (state === "open") say({ open: true })
    if (state === "waiting") client.reconnect() // the waits grow with each failure
  })
  if (reader < given) {
    await client.ping() // answered after the server's OnConnect
    say({ first: true })
  } else {
    client.join("lobby").onJoin(({ first, recovered }) => say({ first, recovered }))
  }
  client.onGap(({ room, from, to }) => room && say({ from: from.offset, at: to.offset }))
  client.on("n", (text, { offset }) => {
    say({ text, at: offset })
    if (text === "last") client.close()
  })
}
