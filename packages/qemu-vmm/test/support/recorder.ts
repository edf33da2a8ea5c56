import type { IoHandler } from '../../src/device.ts'

/** One noted access. */
export type Access = [kind: 'r' | 'w', offset: number, size: number, value?: number]

/** A handler that notes its accesses and answers with `answer` plus the offset. */
export function recorder(answer = 0x11): IoHandler & { log: Access[] } {
  const log: Access[] = []
  return {
    log,
    read(offset, size) {
      log.push(['r', offset, size])
      return answer + offset
    },
    write(offset, size, value) {
      log.push(['w', offset, size, value])
    },
  }
}
