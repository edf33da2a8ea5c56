import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers } from '../rpc/index.ts'

/**
 * Objects of which there are none: devices and interfaces of the host are nothing that guests are given here, and secrets
 * and filters nobody can define. Their lists are empty, and each that is looked for is not found.
 */
export function absentHandlers(): Handlers {
  const device = (name: string): never => {
    const text = `Node device not found: no node device with matching name '${name}'`
    throw new VirtError(ErrorCode.NO_NODE_DEVICE, text)
  }
  const card = (name: string): never => {
    const text = `Interface not found: couldn't find interface named '${name}'`
    throw new VirtError(ErrorCode.NO_INTERFACE, text)
  }
  const filter = (text: string): never => {
    throw new VirtError(ErrorCode.NO_NWFILTER, `Network filter not found: ${text}`)
  }
  return {
    NODE_NUM_OF_DEVICES: () => ({ count: 0 }),
    NODE_LIST_DEVICES: () => ({ names: [] }),
    CONNECT_LIST_ALL_NODE_DEVICES: () => ({ devices: [], count: 0 }),
    CONNECT_LIST_ALL_NWFILTERS: () => ({ filters: [], count: 0 }),
    CONNECT_LIST_ALL_SECRETS: () => ({ secrets: [], count: 0 }),
    CONNECT_LIST_ALL_INTERFACES: () => ({ interfaces: [], count: 0 }),
    NODE_DEVICE_LOOKUP_BY_NAME: ({ name }) => device(name),
    NODE_DEVICE_GET_XML_DESC: ({ name }) => device(name),
    NODE_DEVICE_IS_ACTIVE: ({ device: { name } }) => device(name),
    INTERFACE_LOOKUP_BY_NAME: ({ name }) => card(name),
    INTERFACE_IS_ACTIVE: ({ card: { name } }) => card(name),
    SECRET_LOOKUP_BY_UUID({ uuid }) {
      const text = `Secret not found: no secret with matching uuid '${uuid}'`
      throw new VirtError(ErrorCode.NO_SECRET, text)
    },
    NWFILTER_LOOKUP_BY_NAME: ({ name }) => filter(`no nwfilter with matching name '${name}'`),
    NWFILTER_LOOKUP_BY_UUID: ({ uuid }) => filter(`no nwfilter with matching uuid '${uuid}'`),
  }
}
