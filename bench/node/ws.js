// The peer `ws`: what is published in Redis goes to every socket, as its documentation does it.
//     node ws.js PORT REDIS_URL
const { WebSocketServer, WebSocket } = require('ws')
const { createClient } = require('redis')

const [port, url] = process.argv.slice(2)
const server = new WebSocketServer({ port: Number(port), host: '127.0.0.1', backlog: 4096 })

async function main () {
  const reader = createClient({ url })
  await reader.connect()
  await reader.subscribe('bench', (message) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message)
    }
  })
  console.log('ready')
}

main()
