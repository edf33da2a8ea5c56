/** Random steps in the life of an image, in words that both programs understand. */

/** What is done to the contents of an open image. */
export interface IoStep {
  readonly kind: 'write' | 'zero' | 'unmap' | 'discard' | 'compress'
  readonly at: number
  readonly length: number
  readonly pattern: number
}

/** Some contents, or one command of qemu-img. `swap` lets each program go on with the other's image. */
export type Step =
  | { readonly io: readonly IoStep[] }
  | { readonly img: readonly string[] }
  | { readonly swap: true }

export interface Plan {
  readonly setup: readonly Step[]
  readonly steps: readonly Step[]
}

const LAYOUTS = [
  'cluster_size=512',
  'cluster_size=4k',
  'cluster_size=64k',
  'cluster_size=64k,lazy_refcounts=on',
  'cluster_size=64k,compression_type=zstd',
  'cluster_size=16k,refcount_bits=64',
  // With fewer bits snapshots fail for want of counts, which leaks clusters in QEMU.
  'cluster_size=32k,refcount_bits=8',
  'cluster_size=2M',
  'compat=0.10',
]
const MIB = 1 << 20
/** Sizes are multiples of it, so that no disk ends within a cluster that a smaller one had. */
const GRAIN = 2 * MIB
const MOST = 12 * MIB

/** @param below a random source: 0 up to, not including, its argument */
export function planOf(below: (limit: number) => number): Plan {
  const layout = LAYOUTS[below(LAYOUTS.length)]!
  const match = /cluster_size=(\d+)(k|M)?/.exec(layout)
  const unit = match?.[2] === 'k' ? 1024 : match?.[2] === 'M' ? MIB : 1
  const clusterBytes = match === null ? 65536 : Number(match[1]) * unit
  let size = GRAIN * (1 + below(3))
  const baseFormat = below(3) === 0 ? 'raw' : 'qcow2'
  const baseSize = GRAIN * (1 + below(3))
  const backed = below(4) > 0
  const io = (limit: number): IoStep[] =>
    Array.from({ length: 1 + below(6) }, () => ioStep(below, limit, clusterBytes))
  const setup: Step[] = [
    { img: ['create', '-q', '-f', baseFormat, '@base', `${baseSize}`] },
    { img: ['create', '-q', '-f', 'qcow2', '-o', layout, '@other', `${GRAIN}`] },
    {
      img: backed
        ? [
            'create',
            '-q',
            '-f',
            'qcow2',
            '-o',
            layout,
            '-b',
            'base',
            '-F',
            baseFormat,
            '@top',
            `${size}`,
          ]
        : ['create', '-q', '-f', 'qcow2', '-o', layout, '@top', `${size}`],
    },
  ]
  // Only what was never written can be written compressed.
  const compressed = Array.from({ length: below(6) }, (_, i): IoStep => {
    const at = (i * 3 * clusterBytes) % size
    return { kind: 'compress', at, length: clusterBytes, pattern: 1 + below(255) }
  }).filter(({ at }, i, all) => all.findIndex((one) => one.at === at) === i)
  const steps: Step[] = []
  let names = 0
  for (let count = 8 + below(8); count > 0; count--) {
    const kind = below(20)
    if (kind < 9) steps.push({ io: io(size) })
    else if (kind < 11) steps.push({ img: ['snapshot', '-c', `s${names++}`, '@top'] })
    else if (kind < 13) {
      steps.push({ img: ['snapshot', '-a', `s${below(names + 1)}`, '@top'] })
      // The disk may be another size now: what follows stays within the smallest.
      size = GRAIN
    } else if (kind === 13) steps.push({ img: ['snapshot', '-d', `s${below(names + 1)}`, '@top'] })
    else if (kind < 16) {
      // Without zero clusters QEMU refuses what would show more of the backing file; ours writes zeros.
      if (backed && layout.includes('0.10')) continue
      const to = GRAIN * (1 + below(MOST / GRAIN))
      steps.push({ img: ['resize', '-q', '--shrink', '@top', `${to}`] })
      size = Math.min(size, to)
    } else if (kind === 16) steps.push({ img: ['commit', '-q', '@top'] })
    else if (kind === 17) {
      const rebases = [
        ['-b', 'other', '-F', 'qcow2'],
        ['-b', ''],
        ['-b', 'base', '-F', baseFormat],
      ]
      steps.push({ img: ['rebase', ...rebases[below(rebases.length)]!, '@top'] })
    } else if (kind === 18) steps.push({ swap: true })
    else steps.push({ img: ['check', '-q', '-r', 'all', '@top'] })
  }
  return { setup: [...setup, { io: compressed }], steps }
}

function ioStep(below: (limit: number) => number, size: number, clusterBytes: number): IoStep {
  const kinds = ['write', 'write', 'write', 'zero', 'unmap', 'discard'] as const
  const kind = kinds[below(kinds.length)]!
  const grain = below(3) === 0 ? clusterBytes : 512
  const at = below(Math.floor(size / grain)) * grain
  const most = Math.max(grain, 400 << 10)
  const length = Math.min(size - at, grain * (1 + below(Math.floor(most / grain))))
  return { kind, at, length, pattern: 1 + below(255) }
}
