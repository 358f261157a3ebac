// Readers of a room that keeps history, into which the application puts some. It says in lines of
// JSON what they are told.
import { connect } from "../../js/dist/realtime.js"

const [url, readers, given] = process.argv.slice(2)

for (let reader = 0; reader < readers; reader++) {
  const say = (line) => console.log(JSON.stringify({ reader, ...line }))
  const client = connect(`${url}?user_id=reader${reader}`)
  client.onStatus(({ state }) => {
    if (state === "open") say({ open: true })
    if (state === "waiting") client.reconnect() // waits get long for who fails often
  })
  if (reader < given) {
    await client.ping() // answered behind what the server does when we connect
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
