const client = connect("/ws")
