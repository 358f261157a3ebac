function useRoom(name) {
  const [room, setRoom] = useState(null)
  useEffect(() => {
    const client = connect("/ws")
    setRoom(client.join(name))
    return () => client.close()
  }, [name])
  return room
}
