"""A connection that is kept between requests."""

import select
import socket
import threading

from sdprep.models.captioners.server.address import parse_address
from sdprep.models.captioners.server.connection import Connection
from sdprep.models.captioners.server.key import Key

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_a_connection_that_the_server_closed_meanwhile_takes_no_request():
    requests = []

    def serve():
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                requests.append(client.recv(1 << 16))
                client.sendall(RESPONSE)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = Connection(parse_address(f"http://127.0.0.1:{listener.getsockname()[1]}"), Key())
        assert connection.get("/", 10).body == b"{}"
        assert select.select([connection._http.sock], [], [], 10)[0], "its end has arrived"
        assert connection.get("/", 10).body == b"{}"
        thread.join()
        connection.close()
    assert len(requests) == 2
