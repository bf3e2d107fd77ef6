// The peer Socket.IO with its Redis streams adapter; a socket is in the room its address names.
//     node socketio.js PORT REDIS_URL
const { createServer } = require('node:http')
const { Server } = require('socket.io')
const { createClient } = require('redis')
const { createAdapter } = require('@socket.io/redis-streams-adapter')

const [port, url] = process.argv.slice(2)

async function main () {
  const client = createClient({ url })
  await client.connect()
  const http = createServer()
  const io = new Server(http, {
    adapter: createAdapter(client),
    transports: ['websocket'],
    pingInterval: 60000,
    pingTimeout: 60000
  })
  io.on('connection', (socket) => socket.join(socket.handshake.query.room))
  http.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'))
}

main()
