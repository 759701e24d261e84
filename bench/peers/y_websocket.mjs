// @y/websocket-server by what it exports, as its own server.js does it: documents in memory.
import http from 'node:http'
import { WebSocketServer } from 'ws'
import { setupWSConnection } from '@y/websocket-server/utils'

const server = http.createServer()
const sockets = new WebSocketServer({ noServer: true })
sockets.on('connection', setupWSConnection)
server.on('upgrade', (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, ws => sockets.emit('connection', ws, request))
})
server.listen(Number(process.env.PORT), '127.0.0.1')
process.stdin.on('end', () => process.exit(0)).resume() // ends with whoever started it
