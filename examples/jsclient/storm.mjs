// Readers of a room that keeps history. It says in lines of JSON what they are told.
import { connect } from "../../js/dist/realtime.js"

const [url, readers] = process.argv.slice(2)

for (let reader = 0; reader < readers; reader++) {
  const say = (line) => console.log(JSON.stringify({ reader, ...line }))
  const client = connect(`${url}?user_id=reader${reader}`)
  client.onStatus(({ state }) => {
    if (state === "open") say({ open: true })
    if (state === "waiting") client.reconnect() // waits get long for who fails often
  })
  const room = client.join("lobby")
  room.onJoin(({ first, recovered }) => say({ first, recovered }))
  room.onGap(({ from, to }) => say({ from: from.offset, at: to.offset }))
  room.on("n", (text, { offset }) => {
    say({ text, at: offset })
    if (text === "last") client.close()
  })
}
