// Disks for guests, made and looked at with the project's own and the peer's tools.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootArguments, guestFiles, imageCommand } from './guest.ts'
import { root } from './program.ts'

/** What a program said, and how it ended. */
export interface Said {
  readonly code: number
  readonly text: string
}

export function say(program: string, args: readonly string[]): Said {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  if (error !== undefined) return { code: 127, text: error.message }
  return { code: status ?? 128, text: stdout + stderr }
}

/** Runs a program that must succeed. */
export function must(program: string, args: readonly string[]): string {
  const { code, text } = say(program, args)
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}: ${text}`)
  return text
}

/** Debian's own tool, where it is installed: it must find nothing wrong with our images. */
export const hasPeerImageTool: boolean = say('qemu-img', ['--version']).code === 0

/** A program that Debian keeps out of a user's PATH. */
export function sbin(name: string): string {
  const found = [`/usr/sbin/${name}`, `/sbin/${name}`].find((path) => say(path, ['-V']).code === 0)
  return found ?? name
}

/** An empty ext4 file system in a qcow2 image. */
export function ext4Disk(folder: string, name: string, sizeMib: number): string {
  const raw = join(folder, `${name}.raw`)
  const image = join(folder, `${name}.qcow2`)
  must(sbin('mke2fs'), ['-q', '-t', 'ext4', raw, `${sizeMib}M`])
  must(imageCommand, ['convert', '-f', 'raw', '-O', 'qcow2', raw, image])
  rmSync(raw)
  return image
}

/** Options of a guest that finds this image as /dev/vda and stays in its initramfs. */
export function diskArguments(image: string, more = ''): string[] {
  return [
    ...bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd }),
    '-drive',
    `file=${image.replaceAll(',', ',,')},if=virtio${more}`,
  ]
}

/** Complaints about an image; empty when all is well. */
export function inspectImage(image: string): string[] {
  const complaints: string[] = []
  for (const tool of hasPeerImageTool ? [imageCommand, 'qemu-img'] : [imageCommand]) {
    // 3 means leaked clusters, which cost space and nothing else.
    const { code, text } = say(tool, ['check', image])
    if (code !== 0 && code !== 3) complaints.push(`${tool} check: ${text}`)
  }
  return complaints
}

/** Complaints about an image and the file system in it; empty when all is well. */
export function inspect(folder: string, image: string): string[] {
  const complaints = inspectImage(image)
  const raw = join(folder, 'inspected.raw')
  must(imageCommand, ['convert', '-f', 'qcow2', '-O', 'raw', image, raw])
  if (hasPeerImageTool) {
    const { code, text } = say('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image])
    if (code !== 0) complaints.push(`compare: ${text}`)
  }
  // The journal is replayed first, as a mount would; what is wrong after that is wrong.
  const replay = say(sbin('e2fsck'), ['-p', raw])
  if (replay.code > 1) complaints.push(`e2fsck -p: ${replay.text}`)
  const { code, text } = say(sbin('e2fsck'), ['-f', '-n', raw])
  if (code !== 0) complaints.push(`e2fsck: ${text}`)
  rmSync(raw)
  return complaints
}

/** Gives `work` a folder, and removes it afterwards. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'e2e-disk-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
