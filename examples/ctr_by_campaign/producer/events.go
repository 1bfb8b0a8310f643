package main

import (
	"container/heap"
	"math/rand"
	"time"
)

// Impression is an advertisement that was shown.
type Impression struct {
	ImprID     string `json:"impr_id"`
	UserID     string `json:"user_id"`
	CampaignID string `json:"campaign_id"`
	TS         int64  `json:"ts"` // milliseconds since 1970
}

// Click is a click on an impression.
type Click struct {
	ClickID string `json:"click_id"`
	ImprID  string `json:"impr_id"`
	UserID  string `json:"user_id"`
	TS      int64  `json:"ts"` // milliseconds since 1970
}

// Event is what one record holds, and where it goes.
type Event struct {
	After  time.Duration // from the start
	Stream string
	Key    string
	Value  interface{}
}

const (
	impressions = "ad_impressions"
	clicks      = "ad_clicks"
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
)

var campaigns = []string{"campaign-1", "campaign-2", "campaign-3"}

// Settings decide about every event.
type Settings struct {
	Start    time.Time
	Rate     float64       // impressions a second
	Duration time.Duration // of the impressions; 0: without end
	Seed     int64
	Clicks   float64       // share of the impressions that are clicked
	MaxDelay time.Duration // from an impression to its click
}

// Generator makes events in the order of their times. The same settings make the same events.
type Generator struct {
	settings Settings
	random   *rand.Rand
	shown    int
	waiting  schedule // clicks to come
}

// NewGenerator starts at the first impression.
func NewGenerator(settings Settings) *Generator {
	return &Generator{settings: settings, random: rand.New(rand.NewSource(settings.Seed))}
}

// Next is the next event; false after the last one.
func (g *Generator) Next() (Event, bool) {
	after := time.Duration(float64(g.shown) / g.settings.Rate * float64(time.Second))
	over := g.settings.Duration > 0 && after >= g.settings.Duration
	if len(g.waiting) > 0 && (over || g.waiting[0].After <= after) {
		return heap.Pop(&g.waiting).(Event), true
	}
	if over {
		return Event{}, false
	}
	g.shown++
	return g.impression(after), true
}

func (g *Generator) impression(after time.Duration) Event {
	seen := Impression{
		ImprID:     g.id("impr", 8),
		UserID:     g.id("user", 6),
		CampaignID: campaigns[g.random.Intn(len(campaigns))],
		TS:         g.settings.Start.Add(after).UnixMilli(),
	}
	if g.random.Float64() < g.settings.Clicks {
		later := after + time.Duration(g.random.Float64()*float64(g.settings.MaxDelay))
		click := Click{g.id("click", 8), seen.ImprID, seen.UserID, g.settings.Start.Add(later).UnixMilli()}
		heap.Push(&g.waiting, Event{later, clicks, click.ClickID, click})
	}
	return Event{after, impressions, seen.ImprID, seen}
}

func (g *Generator) id(prefix string, length int) string {
	text := make([]byte, length)
	for i := range text {
		text[i] = letters[g.random.Intn(len(letters))]
	}
	return prefix + "-" + string(text)
}

// schedule is a heap of events by time.
type schedule []Event

func (s schedule) Len() int            { return len(s) }
func (s schedule) Less(i, j int) bool  { return s[i].After < s[j].After }
func (s schedule) Swap(i, j int)       { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x interface{}) { *s = append(*s, x.(Event)) }
func (s *schedule) Pop() interface{} {
	last := len(*s) - 1
	event := (*s)[last]
	*s = (*s)[:last]
	return event
}
