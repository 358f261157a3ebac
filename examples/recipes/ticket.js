const client = connect(async () => {
  const answer = await fetch("/ticket", { method: "POST" })
  return "/ws?ticket=" + await answer.text()
})
