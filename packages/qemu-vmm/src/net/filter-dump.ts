import { closeSync, openSync, writeSync } from 'node:fs'
import {
  type FrameBatch,
  HDR_CSUM_OFFSET,
  HDR_CSUM_START,
  HDR_FLAGS,
  RECORD_LENGTH_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
} from 'virtio'

import { VmmError } from '../errors.ts'
import type { FilterDumpConfig } from '../objects/config.ts'
import { putChecksum } from './checksum.ts'
import type { Netdevs } from './netdevs.ts'

/** The format of libpcap: microseconds, version 2.4, Ethernet. */
const MAGIC = 0xa1b2_c3d4
const LINKTYPE_ETHERNET = 1
const FILE_HEADER_BYTES = 24
const FRAME_HEADER_BYTES = 16
const DEFAULT_LENGTH = 65_536

/** Where the networks are, and who is told of what goes wrong. */
export interface DumpedNetworks extends Pick<Netdevs, 'observe'> {
  report(message: string): void
}

/**
 * A file with the frames of a network as they are taken, for tcpdump and Wireshark. A checksum that a card left to the
 * other end is put in, and a large packet is one frame.
 */
export class FilterDump {
  readonly #file: number
  readonly #most: number
  readonly #id: string
  readonly #networks: DumpedNetworks
  readonly #stop: () => void
  #isOpen = true

  /**
   * @throws VmmError `E_FILE` for a file that cannot be made, `E_NETDEV` when there is no such network
   */
  constructor(config: FilterDumpConfig, networks: DumpedNetworks) {
    const { id, file, maxlen = DEFAULT_LENGTH, netdev, queue = 'all' } = config
    checkLength(maxlen)
    this.#id = id
    this.#most = maxlen
    this.#networks = networks
    this.#file = create(file)
    try {
      const header = new DataView(new ArrayBuffer(FILE_HEADER_BYTES))
      header.setUint32(0, MAGIC, true)
      header.setUint16(4, 2, true)
      header.setUint16(6, 4, true)
      header.setUint32(16, maxlen, true)
      header.setUint32(20, LINKTYPE_ETHERNET, true)
      writeSync(this.#file, header)
      this.#stop = networks.observe(netdev, (fromCard) => (_side, batch, from, to) => {
        if (queue === 'all' || (queue === 'rx') === fromCard) this.#write(batch, from, to)
      })
    } catch (error) {
      closeSync(this.#file)
      throw error
    }
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#stop()
    closeSync(this.#file)
  }

  #write(batch: FrameBatch, from: number, to: number): void {
    if (!this.#isOpen || from >= to) return
    const us = Math.round((performance.timeOrigin + performance.now()) * 1000)
    let bytes = 0
    for (let at = from; at < to; at = batch.next(at)) {
      bytes += FRAME_HEADER_BYTES + Math.min(batch.frameBytes(at), this.#most)
    }
    const data = new Uint8Array(bytes)
    const view = new DataView(data.buffer)
    let out = 0
    for (let at = from; at < to; at = batch.next(at)) {
      const length = batch.frameBytes(at)
      const kept = Math.min(length, this.#most)
      view.setUint32(out, Math.floor(us / 1e6), true)
      view.setUint32(out + 4, us % 1e6, true)
      view.setUint32(out + 8, kept, true)
      view.setUint32(out + 12, length, true)
      data.set(wholeFrame(batch, at).subarray(0, kept), out + FRAME_HEADER_BYTES)
      out += FRAME_HEADER_BYTES + kept
    }
    try {
      writeSync(this.#file, data)
    } catch (error) {
      // Frames go on; the file ends here.
      this.#networks.report(`filter-dump ${this.#id}: ${(error as Error).message}; it ends`)
      this.close()
    }
  }
}

/** The frame with the checksum that its header asks for. */
function wholeFrame(batch: FrameBatch, at: number): Uint8Array {
  const frame = batch.frame(at)
  const header = at + RECORD_LENGTH_BYTES
  if ((batch.bytes[header + HDR_FLAGS]! & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return frame
  const start = batch.view.getUint16(header + HDR_CSUM_START, true)
  const offset = batch.view.getUint16(header + HDR_CSUM_OFFSET, true)
  const copy = frame.slice()
  putChecksum(new DataView(copy.buffer), copy.length, start + offset, start, 0)
  return copy
}

function create(path: string): number {
  try {
    return openSync(path, 'w', 0o644)
  } catch (error) {
    throw new VmmError('E_FILE', `-filter-dump: can't open ${path}: ${(error as Error).message}`, {
      fields: { path },
      cause: error,
    })
  }
}

function checkLength(maxlen: number): void {
  if (Number.isInteger(maxlen) && maxlen >= 1 && maxlen <= 0xffff_ffff) return
  throw new VmmError(
    'E_CONFIG',
    `Property 'filter-dump.maxlen' doesn't take value '${maxlen}': it is 1 to 4294967295`,
  )
}
