/** The part of telnet (RFC 854) that a terminal needs: single characters, no echo, eight bits. */

const IAC = 0xff
const WILL = 0xfb
const DO = 0xfd
const DONT = 0xfe
const SB = 0xfa
const SE = 0xf0
const BREAK = 0xf3
const OPTION_BINARY = 0
const OPTION_ECHO = 1
const OPTION_SUPPRESS_GO_AHEAD = 3

/** What a server says first, in QEMU's order. */
export const TELNET_GREETING: Uint8Array = Uint8Array.of(
  IAC,
  WILL,
  OPTION_ECHO,
  IAC,
  WILL,
  OPTION_SUPPRESS_GO_AHEAD,
  IAC,
  WILL,
  OPTION_BINARY,
  IAC,
  DO,
  OPTION_BINARY,
)

type State = 'data' | 'command' | 'option' | 'subnegotiation' | 'subnegotiation-command'

/** Takes the commands of a peer out of what it sends; they are one stream in pieces of any size. */
export class TelnetReader {
  readonly #onBreak: () => void
  #state: State = 'data'

  constructor(onBreak: () => void) {
    this.#onBreak = onBreak
  }

  /** The data in a piece of the stream. */
  take(chunk: Uint8Array): Uint8Array {
    if (this.#state === 'data' && !chunk.includes(IAC)) return chunk
    const data = new Uint8Array(chunk.length)
    let length = 0
    for (const byte of chunk) {
      if (this.#isData(byte)) data[length++] = byte
    }
    return data.subarray(0, length)
  }

  #isData(byte: number): boolean {
    switch (this.#state) {
      case 'data':
        if (byte !== IAC) return true
        this.#state = 'command'
        return false
      case 'command':
        this.#state = 'data'
        // Said twice it is a byte of data.
        if (byte === IAC) return true
        if (byte >= WILL && byte <= DONT) this.#state = 'option'
        else if (byte === SB) this.#state = 'subnegotiation'
        else if (byte === BREAK) this.#onBreak()
        return false
      case 'option':
        this.#state = 'data'
        return false
      case 'subnegotiation':
        if (byte === IAC) this.#state = 'subnegotiation-command'
        return false
      case 'subnegotiation-command':
        this.#state = byte === SE ? 'data' : 'subnegotiation'
        return false
    }
  }
}

/** Data as it is sent: what looks like the begin of a command is said twice. */
export function telnetData(data: Uint8Array): Uint8Array {
  const count = data.reduce((sum, byte) => sum + (byte === IAC ? 1 : 0), 0)
  if (count === 0) return data
  const sent = new Uint8Array(data.length + count)
  let length = 0
  for (const byte of data) {
    sent[length++] = byte
    if (byte === IAC) sent[length++] = IAC
  }
  return sent
}
