// Hocuspocus as its documentation starts it: documents in memory, nobody has to prove anything.
import { Server } from '@hocuspocus/server'

const server = new Server({
  address: '127.0.0.1',
  port: Number(process.env.PORT),
  quiet: true
})
await server.listen()
process.stdin.on('end', () => process.exit(0)).resume() // ends with whoever started it
