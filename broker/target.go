package broker

// Target says which connections get a message: the fields of realtime.Target. For a broker it is
// plain data.
type Target struct {
	All   bool     `json:"all,omitempty"`
	Rooms []string `json:"rooms,omitempty"`
	Users []string `json:"users,omitempty"`
	Conns []string `json:"conns,omitempty"` // connection ids

	ExceptConns []string `json:"except_conns,omitempty"`
	ExceptUsers []string `json:"except_users,omitempty"`
}
