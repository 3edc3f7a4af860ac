package gateway

import "sync"

// quota counts the tunnels of each identity, pending ones too, over all of its
// connections. It is asked when a tunnel comes or goes, or a limit changes.
type quota struct {
	mu sync.Mutex
	n  map[string]int
}

// over reports whether key has more tunnels than limit (0: no limit).
func (q *quota) over(key string, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return limit > 0 && q.n[key] > limit
}

// take counts one more tunnel of key, unless it has limit already (0: no
// limit).
func (q *quota) take(key string, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit > 0 && q.n[key] >= limit {
		return false
	}
	if q.n == nil {
		q.n = map[string]int{}
	}
	q.n[key]++
	return true
}

func (q *quota) give(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n[key]--; q.n[key] <= 0 {
		delete(q.n, key)
	}
}
