const client = connect("/ws", {
  token: async () => (await fetch("/token")).text(), // asked for each attempt, and when it expires
})
