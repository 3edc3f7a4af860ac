package gateway

import "sync"

// quota knows on which places each identity has tunnels, pending ones too, over
// all of its connections. Places are counted: of the tunnels on one only one
// can be live, so what takes over a tunnel of the same key is none more. It is
// asked when a tunnel comes or goes, or a limit changes.
type quota struct {
	mu sync.Mutex
	on map[string]map[*slot]int // identity, place, and how many stand there
}

// over reports whether key has more tunnels than limit (0: no limit).
func (q *quota) over(key string, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return limit > 0 && len(q.on[key]) > limit
}

// take counts a tunnel of key on s, unless key has limit already elsewhere (0:
// no limit).
func (q *quota) take(key string, s *slot, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	places := q.on[key]
	if limit > 0 && len(places) >= limit && places[s] == 0 {
		return false
	}
	if places == nil {
		places = map[*slot]int{}
		q.on[key] = places
	}
	places[s]++
	return true
}

func (q *quota) give(key string, s *slot) {
	q.mu.Lock()
	defer q.mu.Unlock()
	places := q.on[key]
	if places[s]--; places[s] <= 0 {
		delete(places, s)
	}
	if len(places) == 0 {
		delete(q.on, key)
	}
}
