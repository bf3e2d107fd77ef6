"""The data channel of AWS Systems Manager sessions, as ECS Exec uses it, without the vendor's plugin.

frames.py     bytes <-> Frame, pure
payloads.py   the JSON inside: token, acknowledgements, handshake, size, end
inbound.py    the other side's stream: in order, once, with a bounded buffer
outbound.py   our stream: numbered, in chunks, sent again until it is acknowledged
session.py    the state machine over the four; bytes and milliseconds in, bytes and events out, no I/O
client.py     a session over a WebSocket

Sources, read and not copied: aws/session-manager-plugin (`src/message/clientmessage.go`,
`messageparser.go`, `src/datachannel/streaming.go`, `src/config/config.go`) for the client's side and
aws/amazon-ssm-agent (`agent/session/contracts`, `agent/session/datachannel`, `agent/session/shell`)
for the other one; the frame's layout also against the npm package `ssm-session` (tests/node/ssm).
"""
