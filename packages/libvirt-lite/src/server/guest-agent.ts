import type { Domain } from '../driver/domain.ts'
import { invalid } from '../driver/domain.ts'
import { State } from '../driver/states.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'

/** Name of the channel at whose other end a guest's agent listens. */
const CHANNEL = 'org.qemu.guest_agent.0'

/** That nobody in the guest can be asked. */
export function noAgent({ live, isActive, state }: Domain): VirtError {
  if (!isActive || state.state !== State.RUNNING) return invalid('domain is not running')
  const has = (live?.devices?.channels ?? []).some(({ target }) => target?.name === CHANNEL)
  return has
    ? new VirtError(
        ErrorCode.OPERATION_UNSUPPORTED,
        'Operation not supported: guest agents are not spoken to yet',
      )
    : new VirtError(
        ErrorCode.ARGUMENT_UNSUPPORTED,
        'argument unsupported: QEMU guest agent is not configured',
      )
}

/** Questions that only a program in the guest could answer. */
export function guestAgentHandlers({ domains }: ServerContext): Handlers {
  const refuse = (dom: DomainRef): never => {
    throw noAgent(domains.of(dom))
  }
  return {
    DOMAIN_GET_HOSTNAME({ dom, flags }) {
      // From leases or the agent, of which there are neither.
      checkFlags(flags, 3, 'virDomainGetHostname')
      return refuse(dom)
    },
    DOMAIN_GET_TIME({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainGetTime')
      return refuse(dom)
    },
    DOMAIN_GET_FSINFO({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainGetFSInfo')
      return refuse(dom)
    },
    DOMAIN_GET_GUEST_INFO({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainGetGuestInfo')
      return refuse(dom)
    },
    DOMAIN_INTERFACE_ADDRESSES({ dom, source, flags }) {
      checkFlags(flags, 0, 'virDomainInterfaceAddresses')
      const domain = domains.of(dom)
      if (!domain.isActive) throw invalid('domain is not running')
      if (source === AGENT) return refuse(dom)
      // What a network in user mode gave is known to the emulator alone, and reaches nobody else.
      return { interfaces: [] }
    },
  }
}

/** virDomainInterfaceAddressesSource: leases 0, agent 1, ARP 2. */
const AGENT = 1
