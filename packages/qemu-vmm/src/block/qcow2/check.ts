import type { BlockFile } from '../file/protocol.ts'
import type { CheckOptions, CheckResult } from '../node.ts'
import { hex } from './bytes.ts'
import { ReferenceCounter } from './references.ts'
import type { CopiedError } from './references.ts'
import { clearBits } from './header-bits.ts'
import type { Qcow2Header } from './header.ts'
import { Metadata } from './metadata.ts'
import { maxRefcount } from './refcount-bits.ts'
import { readSnapshots } from './snapshots.ts'

/** More host clusters than that are not counted: the tally would need too much memory. */
const MOST_CLUSTERS = 2 ** 26
/** Lines of a report; a damaged image could have millions. */
const MOST_LINES = 1000

/**
 * Counts all references to host clusters and compares them with the refcounts.
 * @param options what to repair; the image must not be in use then
 */
export async function checkImage(
  file: BlockFile,
  header: Qcow2Header,
  options: CheckOptions,
): Promise<CheckResult> {
  const cs = 2 ** header.clusterBits
  const clusters = Math.ceil(file.sizeBytes / cs)
  const result = emptyResult(Math.ceil(header.sizeBytes / cs))
  let lines = 0
  const report = (line: string): void => {
    if (lines++ < MOST_LINES) options.report?.(line)
  }
  if (clusters > MOST_CLUSTERS) {
    report(`ERROR the file has ${clusters} clusters, at most ${MOST_CLUSTERS} can be checked`)
    result.checkErrors++
    return result
  }
  const metadata = await Metadata.load(file, header, () => Promise.resolve())
  const counter = new ReferenceCounter(file, header, clusters, result, report)
  await counter.countImage(metadata, await readSnapshots(file, header))
  result.imageEndOffset = (counter.highest + 1) * cs
  await compareRefcounts(metadata, counter, result, options, report)
  await judgeCopied(file, metadata, counter, result, options, report)
  if (options.repair !== undefined) {
    await metadata.flush()
    // In the order of their numbers: corruptions that remain keep the image marked.
    if (result.corruptions === 0 && result.checkErrors === 0) await clearBits(file, header)
  }
  return result
}

function emptyResult(totalClusters: number): CheckResult {
  return {
    corruptions: 0,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEndOffset: 0,
    totalClusters,
    allocatedClusters: 0,
    fragmentedClusters: 0,
    compressedClusters: 0,
  }
}

async function compareRefcounts(
  metadata: Metadata,
  counter: ReferenceCounter,
  result: CheckResult,
  options: CheckOptions,
  report: (line: string) => void,
): Promise<void> {
  const { refcounts } = metadata
  for (let cluster = 0; cluster < counter.counts.length; cluster++) {
    const references = counter.counts[cluster]!
    let stored: number
    try {
      stored = refcounts.peek(cluster) ?? (await refcounts.get(cluster))
    } catch {
      // The block is impossible, and counted as a corruption already: all its clusters are skipped.
      cluster += refcounts.perBlock - (cluster % refcounts.perBlock) - 1
      result.checkErrors++
      continue
    }
    if (stored === references) continue
    if (stored > 0) counter.touch(cluster)
    const leak = stored > references
    const repair = options.repair === 'all' || (leak && options.repair === 'leaks')
    const fixed = repair && (await repairOne(metadata, cluster, references - stored, references))
    const verb = fixed ? 'Repairing' : leak ? 'Leaked' : 'ERROR'
    report(`${verb} cluster ${cluster} refcount=${stored} reference=${references}`)
    if (leak && fixed) result.leaksFixed++
    else if (leak) result.leaks++
    else if (fixed) result.corruptionsFixed++
    else result.corruptions++
    if (metadata.crowded && options.repair !== undefined) await metadata.flush()
  }
}

async function repairOne(
  metadata: Metadata,
  cluster: number,
  delta: number,
  references: number,
): Promise<boolean> {
  if (references > maxRefcount(metadata.refcounts.order)) return false
  try {
    await metadata.refcounts.add(cluster, delta)
    return true
  } catch {
    return false
  }
}

/** The flag "copied" of L1 and L2 entries says that the refcount is one. */
async function judgeCopied(
  file: BlockFile,
  metadata: Metadata,
  counter: ReferenceCounter,
  result: CheckResult,
  options: CheckOptions,
  report: (line: string) => void,
): Promise<void> {
  if (options.repair === 'all') await metadata.flush()
  const wrong: CopiedError[] = await counter.copiedErrors(metadata)
  for (const { level, table, entry, at, bytes } of wrong) {
    const fix = options.repair === 'all'
    const verb = fix ? 'Repairing' : 'ERROR'
    report(`${verb} OFLAG_COPIED ${level} entry ${entry} of the table at ${hex(table)}`)
    if (fix) {
      await file.writev(at, [bytes])
      result.corruptionsFixed++
    } else result.corruptions++
  }
}
