function useRoom(name) {
  const [room, setRoom] = useState(null)
  useEffect(() => {
    const client = connect("/ws")
    const joined = client.join(name)
    setRoom(joined)
    return () => {
      joined.leave()
      client.close()
    }
  }, [name])
  return room
}
