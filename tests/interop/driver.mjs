// Real Yjs clients under command: one JSON line in, one JSON line out.
import readline from 'node:readline'
import * as prng from 'lib0/prng'
import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { compareStructStores } from 'yjs/testHelper'

const tabs = new Map()
const WAIT_MS = 30000

const until = (holds, what) => new Promise((resolve, reject) => {
  const late = Date.now() + WAIT_MS
  const look = () => {
    let found = false
    try { found = holds() } catch (error) { return reject(error) }
    if (found) resolve(found)
    else if (Date.now() > late) reject(new Error(`never: ${what}`))
    else setTimeout(look, 5)
  }
  look()
})

const open = ({ tab, url, room, token, broadcast = false, connect = true }) => {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url, room, doc, {
    connect, params: { token }, WebSocketPolyfill: WebSocket, disableBc: !broadcast, maxBackoffTime: 200
  })
  const seen = { doc, provider, closed: null, denied: 0 }
  provider.on('closed', event => { seen.closed = event.code })
  tabs.set(tab, seen)
  return { client: doc.clientID }
}

const same = names => {
  const docs = names.map(name => tabs.get(name).doc)
  const first = Y.snapshot(docs[0])
  for (const doc of docs) {
    if (doc.store.pendingStructs !== null || doc.store.pendingDs !== null) return false
    if (!Y.equalSnapshots(first, Y.snapshot(doc))) return false
  }
  for (const doc of docs.slice(1)) compareStructStores(docs[0].store, doc.store)
  return true
}

// One random change, on every kind of shared type.
const change = (doc, gen) => {
  const text = doc.getText('text'); const array = doc.getArray('array')
  const map = doc.getMap('map'); const xml = doc.getXmlFragment('xml')
  const moves = [
    () => text.insert(prng.int32(gen, 0, text.length), prng.utf16String(gen)),
    () => { if (text.length > 2) text.delete(prng.int32(gen, 0, text.length - 2), 2) },
    () => { if (text.length > 2) text.format(0, 2, { bold: prng.bool(gen) }) },
    () => text.insertEmbed(prng.int32(gen, 0, text.length), { image: prng.word(gen) }),
    () => array.insert(prng.int32(gen, 0, array.length), [prng.int32(gen, -9, 9), null, { a: [1.5, 'x'] }]),
    () => array.insert(prng.int32(gen, 0, array.length), [new Y.Map([['nested', new Y.Array()]])]),
    () => array.insert(0, [new Uint8Array([1, 2, 3]), { big: 2n ** 40n }]),
    () => { if (array.length > 1) array.delete(prng.int32(gen, 0, array.length - 1), 1) },
    () => map.set(prng.oneOf(gen, ['one', 'two', 'three']), prng.word(gen)),
    () => map.set('deep', new Y.Map([['text', new Y.Text(prng.word(gen))]])),
    () => map.delete(prng.oneOf(gen, ['one', 'deep'])),
    () => xml.insert(0, [new Y.XmlElement('p'), new Y.XmlText(prng.word(gen))]),
    () => { if (xml.length > 1) xml.delete(0, 1) },
    () => map.set('sub', new Y.Doc({ guid: prng.word(gen) }))
  ]
  prng.oneOf(gen, moves)()
}

const play = async ({ tabs: names, seed, steps }) => {
  const gen = prng.create(seed)
  for (let step = 0; step < steps; step++) {
    const { doc, provider } = tabs.get(prng.oneOf(gen, names))
    const dice = prng.int32(gen, 0, 99)
    if (dice < 4) provider.disconnect()
    else if (dice < 12) provider.connect()
    else if (dice < 20) await new Promise(resolve => setTimeout(resolve, prng.int32(gen, 0, 5)))
    else change(doc, gen)
  }
  for (const name of names) tabs.get(name).provider.connect()
  await until(() => same(names), `the same in ${names} (seed ${seed})`)
  const { doc } = tabs.get(names[0])
  return { structs: [...doc.store.clients.values()].reduce((sum, one) => sum + one.length, 0) }
}

const commands = {
  open,
  play,
  type: ({ tab, text }) => { const t = tabs.get(tab).doc.getText('text'); t.insert(t.length, text) },
  erase: ({ tab, length }) => tabs.get(tab).doc.getText('text').delete(0, length),
  text: async ({ tab, text }) => {
    const shown = tabs.get(tab).doc.getText('text')
    try { await until(() => shown.toString() === text, `${tab} shows ${text}`) } catch (error) {
      throw new Error(`${error.message}, but ${shown.toString()}`)
    }
  },
  synced: ({ tab }) => until(() => tabs.get(tab).provider.synced, `${tab} synced`).then(() => undefined),
  disconnect: ({ tab }) => tabs.get(tab).provider.disconnect(),
  connect: ({ tab }) => tabs.get(tab).provider.connect(),
  closed: ({ tab }) => until(() => tabs.get(tab).closed, `${tab} closed for good`).then(code => ({ code })),
  present: ({ tab, name }) => tabs.get(tab).provider.awareness.setLocalStateField('user', name),
  who: async ({ tab, names }) => {
    const { awareness } = tabs.get(tab).provider
    const here = () => [...awareness.getStates().values()].map(state => state.user).filter(name => name).sort()
    try { await until(() => JSON.stringify(here()) === JSON.stringify(names), `${tab} sees ${names}`) } catch (error) {
      throw new Error(`${error.message}, but ${here()}`)
    }
  },
  same: ({ tabs: names }) => until(() => same(names), `the same in ${names}`).then(() => undefined),
  state: ({ tab }) => ({ update: Buffer.from(Y.encodeStateAsUpdate(tabs.get(tab).doc)).toString('base64') }),
  leave: ({ tab }) => { tabs.get(tab).provider.destroy(); tabs.delete(tab) }
}

console.warn = () => {}
console.error = () => {}
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: command, ...rest } = JSON.parse(line)
  let answer
  try { answer = { ok: true, ...(await commands[command](rest)) } } catch (error) {
    answer = { ok: false, error: `${command}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit(0)
