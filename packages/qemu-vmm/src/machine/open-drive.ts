import { ErrorPolicy } from '../block/error-policy.ts'
import { openImage } from '../block/open.ts'
import { VmmError } from '../errors.ts'
import type { DriveOpener, OpenDrive } from './drive.ts'

/** Opens the image of a drive; what goes wrong names the file as QEMU does. */
export const openDrive: DriveOpener = async (config, { onStop, log }) => {
  try {
    const node = await openImage({
      filename: config.file,
      format: config.format,
      cache: config.cache,
      aio: config.aio,
      readonly: config.readOnly,
      snapshot: config.snapshot,
      discard: config.discard,
      locking: config.locking === false ? 'off' : 'auto',
      warn: log,
    })
    const { werror, rerror } = config
    const policy = new ErrorPolicy(node, {
      onStop,
      ...(werror === undefined ? {} : { werror }),
      ...(rerror === undefined ? {} : { rerror }),
    })
    let backingDepth = 0
    for (let image = node.backing; image !== undefined; image = image.backing) backingDepth++
    return Object.assign(policy, {
      image: { format: node.format, backingDepth },
      resize: (sizeBytes: number) => node.resize(sizeBytes),
    }) satisfies OpenDrive
  } catch (error) {
    if (!(error instanceof VmmError)) throw error
    throw new VmmError(error.code, `-drive file=${config.file}: ${error.message}`, {
      fields: { ...error.fields, drive: config.id },
      cause: error,
    })
  }
}
