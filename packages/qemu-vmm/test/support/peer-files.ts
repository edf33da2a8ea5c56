import type { QtestPeer } from './qtest.ts'

const DIRECTORY = 0x19
const SELECT_AND_READ = 0x0a
const BLOCK = 0x1_0000
const DATA = 0x10_0000

/** An item of the firmware configuration device of a QEMU, or its beginning, read by DMA. */
export async function peerItem(peer: QtestPeer, item: number, bytes: number): Promise<Buffer> {
  const block = Buffer.alloc(16)
  block.writeUInt32BE(item * 0x1_0000 + SELECT_AND_READ, 0)
  block.writeUInt32BE(bytes, 4)
  block.writeUInt32BE(DATA, 12)
  await peer.ask(`write ${BLOCK} 16 0x${block.toString('hex')}`)
  const address = Buffer.alloc(4)
  address.writeUInt32LE(BLOCK)
  await peer.ask('outl 0x514 0')
  await peer.ask(`outl 0x518 ${address.readUInt32BE()}`)
  return Buffer.from((await peer.ask(`read ${DATA} ${bytes}`)).slice(2), 'hex')
}

/** A file of that device. */
export async function peerFile(peer: QtestPeer, name: string): Promise<Buffer> {
  const read = async (item: number, bytes: number): Promise<Buffer> =>
    await peerItem(peer, item, bytes)
  const count = (await read(DIRECTORY, 4)).readUInt32BE()
  const entries = (await read(DIRECTORY, 4 + 64 * count)).subarray(4)
  for (let at = 0; at < entries.length; at += 64) {
    const entry = entries.subarray(at, at + 64)
    if (!entry.subarray(8).toString('latin1').startsWith(`${name}\0`)) continue
    return await read(entry.readUInt16BE(4), entry.readUInt32BE())
  }
  throw new Error(`there is no ${name}`)
}
