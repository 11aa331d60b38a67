"""Listens on an abstract socket, and greets whoever comes."""
import socket

with socket.socket(socket.AF_UNIX) as server:
    server.bind("\0neighbour")
    server.listen()
    print("ready", flush=True)
    while True:
        client, _ = server.accept()
        print("through: somebody connected", flush=True)
        client.sendall(b"hello")
