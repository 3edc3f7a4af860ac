package sshd

// Borrower is who gets what arrives on a channel in place of a reader. It is
// called by the goroutine that has read it from the connection: it must not
// wait, and must send nothing on the connection. It returns how much of p it
// has taken, and whether it wants more. Where that is not all of p, or more is
// false, the loan is over, and the rest and what comes after it is for a reader.
// The last call is with end, which is what a Read would return.
type Borrower = func(p []byte, end error) (n int, more bool)

// Lend lends the channel, so that nobody has to be woken for what arrives. It
// reports false, and lends nothing, where something has arrived that was not
// read, or there is an end.
func (k *Channel) Lend(f Borrower) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unread > 0 || k.ended() {
		return false
	}
	k.lent = f
	k.loans++
	return true
}

// Recall ends the loan; the borrower is not called any more. It reports false,
// and does nothing, where the loan is over or the borrower is being called.
func (k *Channel) Recall() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lent == nil || k.lending {
		return false
	}
	k.lent = nil
	return true
}

// lend calls the borrower. k.mu is held, but not meanwhile, when the channel
// may be closed, or lent to somebody else.
func (k *Channel) lend(p []byte, end error) (n int) {
	f, loan := k.lent, k.loans
	n, more := k.unlocked(f, p, end)
	if k.loans == loan && (!more || n < len(p) || end != nil) {
		k.lent = nil
	}
	k.endLoan()
	return n
}

// unlocked calls f without k.mu, which is held again afterwards, come what may: a
// borrower that has panicked is still told of the end.
func (k *Channel) unlocked(f Borrower, p []byte, end error) (n int, more bool) {
	k.lending = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.lending = false
	}()
	return f(p, end)
}

// endLoan tells the borrower of an end, unless it is being called. k.mu is
// held.
func (k *Channel) endLoan() {
	if k.lent != nil && !k.lending && k.ended() {
		k.told = true
		k.lend(nil, k.end())
	}
}
