package sla

// Seats returns how many places of machines a policy's regions have, empty ones included.
func (l *Ledger) Seats(policyName string) int {
	n := 0
	for _, r := range l.policy(policyName).regions {
		n += len(r.seats)
	}
	return n
}
