const client = connect("/ws")
const board = client.join("board")
const cursors = new Map() // by user

addEventListener("pointermove", ({ clientX, clientY }) => { // once per frame that the screen shows
  board.send("cursor", [clientX, clientY], { ephemeral: true })
})

board.on("cursor", ([x, y], { sender }) => {
  const cursor = cursors.get(sender) ?? document.body.appendChild(document.createElement("i"))
  cursors.set(sender, cursor)
  cursor.textContent = sender
  cursor.style = `position: fixed; left: ${x}px; top: ${y}px; pointer-events: none`
})
