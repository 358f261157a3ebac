const client = connect(async () => {
  const answer = await fetch("/ticket", { method: "POST" })
  if (!answer.ok) throw new Error("no ticket") // the client tries again later
  return "/ws?ticket=" + await answer.text()
})
