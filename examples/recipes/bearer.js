const client = connect("/ws", {
  token: async () => { // asked for each attempt, and when it expires
    const answer = await fetch("/token")
    if (!answer.ok) throw new Error("no token") // then it tries again later
    return answer.text()
  },
})
