const client = connect("/ws", {
  token: async () => { // called for each attempt, and when the token expires
    const answer = await fetch("/token")
    if (!answer.ok) throw new Error("no token") // the client tries again later
    return answer.text()
  },
})
