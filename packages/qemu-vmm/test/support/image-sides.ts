import { openImage } from '../../src/block/index.ts'
import { tool } from './disks.ts'
import type { IoStep } from './image-steps.ts'
import { ours } from './img.ts'

/** One program with a folder of its own. */
export interface Side {
  /** Resolves to whether it worked. */
  img(folder: string, args: readonly string[]): Promise<boolean>
  io(folder: string, steps: readonly IoStep[]): Promise<void>
}

const placed = (folder: string, args: readonly string[]): string[] =>
  args.map((arg) => arg.replace('@', `${folder}/`))

export const own: Side = {
  async img(folder, args) {
    const { status, stderr } = await ours(...placed(folder, args))
    if (stderr.includes('internal error')) throw new Error(`${args.join(' ')}: ${stderr}`)
    return status === 0
  },

  async io(folder, steps) {
    const filename = `${folder}/top`
    const node = await openImage({ filename, format: 'qcow2', discard: 'unmap' })
    try {
      for (const { kind, at, length, pattern } of steps) {
        const bytes = (): Uint8Array => new Uint8Array(length).fill(pattern)
        if (kind === 'write') await node.writev(at, [bytes()])
        else if (kind === 'discard') await node.discard(at, length)
        else if (kind === 'compress') await node.writeCompressed!(at, bytes())
        else await node.writeZeroes(at, length, kind === 'unmap')
      }
    } finally {
      await node.close()
    }
  },
}

export const peers: Side = {
  img(folder, args) {
    return Promise.resolve(tool('qemu-img', ...placed(folder, args)).status === 0)
  },

  io(folder, steps) {
    const words = {
      write: (pattern: number) => `write -P ${pattern}`,
      zero: () => 'write -z',
      unmap: () => 'write -z -u',
      discard: () => 'discard',
      compress: (pattern: number) => `write -c -P ${pattern}`,
    }
    const commands = steps.flatMap(({ kind, at, length, pattern }) => [
      '-c',
      `${words[kind](pattern)} ${at} ${length}`,
    ])
    const { status, stdout, stderr } = tool(
      'qemu-io',
      '-f',
      'qcow2',
      '-d',
      'unmap',
      ...commands,
      `${folder}/top`,
    )
    // Discards that an old image cannot have are no failure.
    const failed = status !== 0 && !/^(?:discard failed: Operation not supported\n)+$/.test(stderr)
    if (failed) throw new Error(`qemu-io: ${stdout.match(/.*failed.*/)?.[0] ?? ''}${stderr}`)
    return Promise.resolve()
  },
}
